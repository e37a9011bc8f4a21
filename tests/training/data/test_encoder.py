"""Rendering and encoding beside transformers and TRL: the same text, the same ids, loss on the answers alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.conftest import tiny_model
from tests.training.data.rows import talk
from training.data.encoder import IGNORED, Encoder, Text
from training.data.examples import Example, Turn

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
    (whole,) = encoder.encode(encoder.render(TALKS["several turns"], answers_only=False))
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
