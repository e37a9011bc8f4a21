"""Rendering and encoding beside transformers and TRL: the same text, the same ids, loss on the answers alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.playground.chat_templates import DROPS_ANSWERS, LAST_ALONE
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import talk
from training.data.encoder import Encoder
from training.data.examples import Example, Turn
from training.data.tokenizing import IGNORED, Text

TALKS = {
    "one turn": talk("안녕? 누구야?", "저는 마당이에요. Nice to meet you 😊"),
    "several turns": talk("하나", "둘\n셋", "  spaces  ", "12345 numbers", "끝?", "끝."),
    "a system message": Example(
        1, "conversation", (Turn("system", "짧게 답한다."), Turn("user", "왜?"), Turn("assistant", "그래서."))
    ),
}
BOS, EOS = 8, 9
PLAIN = "{% for m in messages %}{{ m.role + ' ' + m.content + ' </s> ' }}{% endfor %}"
WITH_BOS = "{{ bos_token }}" + PLAIN
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'a ' + m.content + ' : ' }}"
    "{% elif loop.last %}{{ 'b ' + m.content + ' </s>' }}{% else %}{{ 'c ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'b ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def reference(encoder: Encoder) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(encoder.folder)


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [turn._asdict() for turn in turns]


@pytest.mark.models
@pytest.mark.parametrize("name", TALKS)
def test_text_and_ids_are_those_of_transformers(encoder: Encoder, reference: Any, name: str) -> None:
    example = TALKS[name]
    (row,) = encoder.render(example)
    assert row.text == reference.apply_chat_template(messages(example.turns), tokenize=False)
    (tokens,) = encoder.encode([row])
    assert tokens.ids == reference(row.text)["input_ids"]
    assert encoder.count([row.text]) == [len(tokens.ids)]


@pytest.mark.models
@pytest.mark.parametrize("name", ["one turn", "a system message"])
def test_the_mask_is_trls_completion_mask(encoder: Encoder, reference: Any, name: str) -> None:
    turns = TALKS[name].turns
    prompt = reference.apply_chat_template(messages(turns[:-1]), tokenize=False, add_generation_prompt=True)
    length = len(reference(prompt)["input_ids"])
    (tokens,) = encoder.encode(encoder.render(TALKS[name]))
    assert tokens.labels == [IGNORED] * length + tokens.ids[length:]
    assert encoder.tokenizer.token_to_id("<|im_end|>") in tokens.labels
    assert tokens.answers == len(tokens.ids) - length


@pytest.mark.models
def test_every_answer_of_a_conversation_is_learnt_and_nothing_else(encoder: Encoder) -> None:
    (tokens,) = encoder.encode(encoder.render(TALKS["several turns"]))
    learnt = encoder.tokenizer.decode([t for t in tokens.labels if t != IGNORED], skip_special_tokens=False)
    assert learnt == "둘\n셋<|im_end|>\n12345 numbers<|im_end|>\n끝.<|im_end|>\n"
    everything = Encoder(encoder.folder, answers_only=False)
    (whole,) = everything.encode(everything.render(TALKS["several turns"]))
    assert whole.labels == whole.ids == tokens.ids
    assert tokens.cut(3).labels == [IGNORED] * 3


@pytest.mark.models
def test_plain_text_is_learnt_whole_and_ends(encoder: Encoder) -> None:
    (tokens,) = encoder.encode(encoder.render(Example(1, "text", text="마당은 넓다.")))
    assert tokens.labels == tokens.ids
    assert tokens.ids[-1] == encoder.tokenizer.token_to_id(encoder.eos)


@pytest.mark.models
def test_a_pair_is_the_prompt_and_both_answers_with_their_ends(encoder: Encoder, reference: Any) -> None:
    pair = encoder.pair(Example(1, "preference", (Turn("user", "왜?"),), chosen="그래서.", rejected="몰라."))
    for answer, ids in (("그래서.", pair.chosen), ("몰라.", pair.rejected)):
        said = [{"role": "user", "content": "왜?"}, {"role": "assistant", "content": answer}]
        assert pair.prompt + ids == reference(reference.apply_chat_template(said, tokenize=False))["input_ids"]


def test_a_rated_answer_is_encoded_as_in_a_pair(encoder: Encoder) -> None:
    pair = Example(1, "preference", (Turn("user", "왜?"),), chosen="그래서.", rejected="몰라.")
    rated = Example(1, "rated", (*pair.turns, Turn("assistant", "몰라.")), good=False)
    assert encoder.rated(rated) == (encoder.pair(pair).prompt, encoder.pair(pair).rejected)


def test_a_model_without_a_template_gets_alpacas(tiny: Path) -> None:
    encoder = Encoder(tiny)
    (row,) = encoder.render(talk("a b", "c d"))
    assert encoder.format_used == "alpaca"
    assert row.text.startswith("Below is an instruction")
    assert "### Instruction:\na b\n\n### Response:\nc d</s>" in row.text
    (tokens,) = encoder.encode([row])
    assert [label for label in tokens.labels if label != IGNORED] == [2, 3, EOS]
    assert Encoder(tiny, "koalpaca").render(talk("a", "b"))[0].text.startswith("### 질문: a")


@pytest.mark.parametrize("template", [PLAIN, WITH_BOS], ids=["the tokenizer adds it", "the template writes it"])
def test_bos_comes_once(tmp_path: Path, template: str) -> None:
    encoder = Encoder(tiny_model(tmp_path / "tiny", template))
    rows = encoder.render(talk("a b", "c d"))
    (tokens,) = encoder.encode(rows)
    assert tokens.ids.count(BOS) == 1
    assert tokens.ids[0] == BOS
    assert tokens.labels[0] == IGNORED
    text = encoder.render(Example(1, "text", text="a b"))
    assert encoder.encode(text)[0].ids == [BOS, 0, 1, EOS]
    assert encoder.encode(text)[0].labels == [IGNORED, 0, 1, EOS]
    mixed = [rows[0].text, text[0].text, "a", "<s>a"]
    assert encoder.count(mixed) == [len(t.ids) for t in encoder.encode([Text(row, ()) for row in mixed])]
    pair = encoder.pair(Example(1, "preference", (Turn("user", "a"),), chosen="b", rejected="c"))
    assert (pair.prompt.count(BOS), pair.chosen.count(BOS)) == (1, 0)


def test_a_template_that_rewrites_earlier_turns_makes_a_row_of_each_answer(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model(tmp_path / "tiny", FORGETFUL))
    rows = encoder.render(talk("a", "d e", "f", "g"))
    assert [row.text for row in rows] == ["a a : b d e </s>", "a a : c a f : b g </s>"]
    assert [row.text[slice(*row.learnt[0])] for row in rows] == ["d e </s>", "g </s>"]
    labels = [[label for label in tokens.labels if label != IGNORED] for tokens in encoder.encode(rows)]
    assert labels == [[3, 4, EOS], [6, EOS]]


def test_the_template_may_lie_in_a_file_or_in_a_list(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": PLAIN}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert Encoder(folder).render(talk("a", "b"))[0].text.startswith("user a </s>")
    (folder / "chat_template.jinja").write_text(WITH_BOS)
    assert Encoder(folder).render(talk("a", "b"))[0].text.startswith("<s>user a </s>")


def byte_level(folder: Path, template: str, **config: Any) -> Encoder:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special, alphabet = ["<pad>", "<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        ["Hello Hello Answer: Hello 안녕하세요 " * 9],
        trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return written(folder, raw, template, eos_token="<|im_end|>", **config)


def pieces(folder: Path, template: str) -> Encoder:
    """SentencePiece in Llama 2's way: a space before the text, bytes for what has no word."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    words = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *"▁HelowrdINST[/]안녕하세요", "▁H", "▁He"]
    raw = Tokenizer(
        models.BPE(
            {w: n for n, w in enumerate(words)}, [("▁", "H"), ("▁H", "e")], byte_fallback=True, unk_token="<unk>"
        )
    )
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<s>", "</s>")])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return written(folder, raw, template, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def unigram(folder: Path, template: str) -> Encoder:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    scored = [
        ("<unk>", 0.0),
        ("</s>", 0.0),
        ("▁Hello", -1.0),
        ("▁", -2.0),
        *((c, -3.0) for c in "Helowrd안녕하세요?QA:"),
    ]
    raw = Tokenizer(models.Unigram(scored, 0, byte_fallback=False))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    raw.add_special_tokens(["</s>"])
    return written(folder, raw, template, eos_token="</s>")


def wordpiece(folder: Path, template: str) -> Encoder:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    words = ["[UNK]", "[SEP]", "hello", "안", "##녕", "?", "q", "a", ":", "##하", "##세", "##요"]
    raw = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    raw.add_special_tokens(["[SEP]"])
    return written(folder, raw, template, eos_token="[SEP]")


def written(folder: Path, raw: Any, template: str, **config: Any) -> Encoder:
    folder.mkdir()
    raw.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, **config}))
    return Encoder(folder)


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SPACED = (
    "{% for m in messages %}{{ ('Q' if m.role == 'user' else 'A') + ': ' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
)
KINDS = [
    (byte_level, CHATML, "Hello<|im_end|>\n"),
    (byte_level, SPACED, " Hello<|im_end|>"),
    (pieces, INST, "  Hello </s>"),
    (unigram, SPACED, " Hello</s>"),
    (wordpiece, SPACED, " hello [SEP]"),
]


@pytest.mark.parametrize(("make", "template", "learnt"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_first_word_and_the_end_are_learnt_and_no_prompt(
    make: Any, template: str, learnt: str, tmp_path: Path
) -> None:
    encoder = make(tmp_path / "model", template)
    (tokens,) = encoder.encode(encoder.render(talk("안녕?", "Hello")))
    found = [label for label in tokens.labels if label != IGNORED]
    assert tokens.labels[-len(found) :] == found == tokens.ids[-len(found) :]
    assert encoder.tokenizer.decode(found, skip_special_tokens=False).strip() == learnt.strip()
    assert encoder.tokenizer.token_to_id(encoder.eos) in found


def test_a_text_that_ends_already_gets_no_second_end(tmp_path: Path) -> None:
    encoder = pieces(tmp_path / "model", INST)
    for text in ("<s>[INST] 안녕 [/INST] Hello </s>", "<s>Hello</s>\n", "Hello"):
        (tokens,) = encoder.encode(encoder.render(Example(1, "text", text=text)))
        assert (tokens.ids.count(1), tokens.ids.count(2)) == (1, 1)


def test_pad_may_be_the_end(tmp_path: Path) -> None:
    encoder = byte_level(tmp_path / "model", CHATML, pad_token="<|im_end|>")
    (tokens,) = encoder.encode(encoder.render(talk("안녕?", "Hello")))
    learnt = [encoder.tokenizer.id_to_token(label) for label in tokens.labels if label != IGNORED]
    assert learnt.count("<|im_end|>") == 1


def test_an_answer_that_the_template_leaves_out_is_put_after_the_prompt(tmp_path: Path) -> None:
    for template in (LAST_ALONE, DROPS_ANSWERS):
        encoder = Encoder(tiny_model(tmp_path / "tiny", template))
        (row,) = encoder.render(talk("a", "b"))
        assert row.text[slice(*row.learnt[0])] == "b</s>"
        assert row.text.endswith("A:b</s>")


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "LlamaTokenizer", None])
def test_the_tokenizer_is_the_one_that_transformers_loads(name: str | None, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = pieces(tmp_path / "model", INST).folder
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | ({"tokenizer_class": name} if name else {})))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    encoder, wanted = Encoder(folder), AutoTokenizer.from_pretrained(folder)
    rows = encoder.render(talk("안녕?", "Hello"))
    assert encoder.tokens == wanted.special_tokens_map
    assert [tokens.ids for tokens in encoder.encode(rows)] == [wanted(row.text)["input_ids"][1:] for row in rows]
