"""Tiny vocabularies of the kinds there are, as transformers has them and as llama.cpp does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "[INST]")
"""`[INST]` and `<start_of_turn>` are no control tokens among them; `<end_of_turn>` takes the white space beside it."""
NOT_SPECIAL = ("<think>", "[INST]", "<start_of_turn>")
SYLLABLES = "▁ Hellowrd안녕하세요시스템사용자user<|/>[]_INST.?\nmasitendofpturk"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content | trim + "
    "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
INST = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
    "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "gemma": GEMMA, "inst": INST}


def _added() -> list[Any]:
    from tokenizers import AddedToken

    def token(word: str) -> Any:
        takes = word == "<end_of_turn>"
        return AddedToken(word, special=word not in NOT_SPECIAL, normalized=False, lstrip=takes, rstrip=takes)

    return [token(word) for word in (*SPECIAL, "<think>")]


def _bytes() -> list[str]:
    return [f"<0x{number:02X}>" for number in range(256)]


def _letters() -> list[str]:
    return [letter for letter in dict.fromkeys(SYLLABLES) if letter not in " \n"]


def byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(["Hello 안녕하세요 im_start im_end user assistant <| |> </s> turn " * 9], trainer)
    return raw


def _sentencepiece() -> Any:
    from tokenizers import Tokenizer, decoders, models

    words = list(dict.fromkeys([*SPECIAL[:3], *_bytes(), *SPECIAL[3:], *_letters(), "▁H", "▁He", "</", "</s"]))
    merges = [("▁", "H"), ("▁H", "e"), ("<", "/"), ("</", "s"), ("</s", ">")]
    raw = Tokenizer(
        models.BPE(
            {word: n for n, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return raw


def prepending() -> Any:
    """SentencePiece as Llama 2 has it: a space before the text and behind every control token."""
    from tokenizers import normalizers

    raw = _sentencepiece()
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return raw


def prepending_once() -> Any:
    """SentencePiece as later models have it: a space before the text alone."""
    from tokenizers import pre_tokenizers

    raw = _sentencepiece()
    raw.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    return raw


def unigram() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = dict.fromkeys([*SPECIAL[:3], *_bytes(), *SPECIAL[3:], *_letters(), "▁Hello", "</"])
    scored = [(word, 0.0 if word in SPECIAL else -float(len(word)) / 9 - 1) for word in words]
    raw = Tokenizer(models.Unigram(scored, 0, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return raw


KINDS = {
    "byte level": byte_level,
    "space everywhere": prepending,
    "space once": prepending_once,
    "unigram": unigram,
}


def folder(path: Path, kind: str, template: str, bos: bool = False) -> Path:
    """Write a tokenizer as a user's folder has it; `bos`: it adds one by itself."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    raw = KINDS[kind]()
    raw.add_tokens(_added())
    if bos:
        number = raw.token_to_id("<s>")
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, **TOKENS)
    fast.chat_template = template
    fast.save_pretrained(path)
    return path


def gguf(  # noqa: PLR0913 - a thing that differs each
    path: Path, kind: str, template: str, prefix: bool = True, more: Sequence[str] = (), name: str = ""
) -> Path:
    """Write a GGUF that holds a vocabulary alone: `spm` or `bpe`; `more`: words that its user defined.

    `name`: the model's, by which llama.cpp knows some whose tokens take white space with them.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    words, types = _gguf_words(kind, more)
    if name:
        writer.add_name(name)
    writer.add_tokenizer_model("llama" if kind == "spm" else "gpt2")
    writer.add_token_list(words)
    writer.add_token_types(types)
    if kind == "spm":
        writer.add_token_scores([0.0 if types[n] != 1 else -float(n) for n in range(len(words))])
        writer.add_add_space_prefix(prefix)
    else:
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(["h e", "< |", "| >"])
    for name, word in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>")):
        getattr(writer, f"add_{name}_token_id")(words.index(word))
    writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _gguf_words(kind: str, more: Sequence[str] = ()) -> tuple[list[str], Sequence[int]]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    plain = [*_letters(), "▁H", "</", "</s"] if kind == "spm" else [*bytes_to_unicode().values(), "he", "<|", "|>"]
    octets = _bytes() if kind == "spm" else []
    words = list(dict.fromkeys([*SPECIAL[:3], *octets, *SPECIAL[3:], "<think>", *more, *plain]))
    user = dict.fromkeys((*NOT_SPECIAL, *more), 4)
    kinds = {"<unk>": 2, **dict.fromkeys(SPECIAL[1:], 3), **user, **dict.fromkeys(octets, 6)}
    return words, [kinds.get(word, 1) for word in words]
