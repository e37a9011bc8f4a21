"""What an export was asked for, what each part will be called and weigh, before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from playground.catalogue.files import read_json
from playground.errors import ConfigError, UnknownNameError
from playground.values import Value
from training.export import gptq
from training.export.gguf import DIRECT, LEVELS
from training.export.shards import bytes_16bit

Kind = Literal["adapter", "merged", "gguf", "gptq"]
KINDS: tuple[Kind, ...] = get_args(Kind)
USUAL = "q4_k_m"
BITS = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "tq1_0": 1.7, "tq2_0": 2.1, "mxfp4_moe": 4.3, "nvfp4": 4.5}
K_BLOCK = 256
SMALL = 24 << 20
"""What tokenizer, configs and metadata may add to a build."""
SHARE_GPTQ = 0.55
"""Of the 16-bit size: 4-bit layers with their scales, embeddings left as they are."""


class Wanted(Value):
    """One artefact: its kind and, for GGUF, its level in lower case."""

    kind: Kind
    level: str = ""

    @property
    def label(self) -> str:
        """How people and the catalogue call it: adapter, merged, GPTQ, Q4_K_M."""
        return self.level.upper() if self.kind == "gguf" else "GPTQ" if self.kind == "gptq" else self.kind

    @property
    def quantized(self) -> bool:
        """Whether it is a GGUF made from the f16 one, rather than by the converter."""
        return self.kind == "gguf" and self.level not in DIRECT

    def place(self, stem: str) -> str:
        """Its file or folder inside the export; GPTQ's says the format, too, since not every program loads it."""
        if self.kind == "gguf":
            return f"{stem}-{self.label}.gguf"
        return f"{stem}-gptq-{gptq.FORMAT}" if self.kind == "gptq" else self.kind


F16 = Wanted(kind="gguf", level="f16")
"""The one conversion that all levels are quantized from."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of each artefact by its label, and of the whole at its peak with what is built on the way."""

    artefacts: dict[str, int]
    peak: int


def parse(text: str) -> tuple[Wanted, ...]:
    """Read `adapter,merged,gguf:q4_k_m,q8_0,gptq`: `gguf:` opens a list of levels, which bare ones go on with."""
    found: list[Wanted] = []
    levels_open = False
    for token in filter(None, (part.strip().lower() for part in text.split(","))):
        head, colon, level = token.partition(":")
        if head == "gguf":
            levels_open = True
            found.append(_level(level or USUAL))
        elif colon:
            raise ConfigError(
                f"{token!r} is no export format: {head!r} takes no level.", "Only gguf does: gguf:q4_k_m."
            )
        elif token in KINDS:
            found.append(Wanted(kind=token))
        elif levels_open:
            found.append(_level(token))
        elif token in LEVELS:
            raise ConfigError(f"{token!r} is a GGUF level.", f"Write gguf:{token}.")
        else:
            raise UnknownNameError("export format", token, KINDS, "GGUF takes levels: gguf:q4_k_m,q8_0.")
    if not found:
        raise ConfigError("Export to which formats?", f"--to {','.join(KINDS)}, or gguf:q4_k_m,q8_0.")
    return tuple(dict.fromkeys(found))


def sizes(base: Path, adapter: Path, wanted: Sequence[Wanted]) -> Sizes:
    """Return what the artefacts will take, from headers alone; a little more rather than less."""
    full = bytes_16bit(base) + SMALL
    odd = _odd_widths(base)
    rows = {one.label: _size(one, full, adapter, odd) for one in wanted}
    kinds = {one.kind for one in wanted}
    on_the_way = 0
    if any(one.quantized for one in wanted) and "F16" not in rows:
        on_the_way += full
    if kinds & {"gguf", "gptq"} and "merged" not in kinds:
        on_the_way += full
    return Sizes(rows, sum(rows.values()) + on_the_way)


def bytes_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; 0 where there is nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _size(one: Wanted, full: int, adapter: Path, odd: bool) -> int:
    if one.kind == "adapter":
        return sum(file.stat().st_size for file in adapter.iterdir() if file.is_file())
    if one.kind == "merged":
        return full
    if one.kind == "gptq":
        return int(full * SHARE_GPTQ) + SMALL
    bits = BITS.get(one.level)
    if bits is None:
        digit = next(int(sign) for sign in one.level if sign.isdigit())
        bits = digit + (2.3 if odd else 0.9)  # K-quants keep some tensors finer; odd widths fall back to coarser blocks
    return int(full * bits / 16) + SMALL


def _odd_widths(base: Path) -> bool:
    """Return whether rows are not divisible into K-quants' blocks, so that larger types stand in for them."""
    config = read_json(base / "config.json")
    widths = (config.get("hidden_size"), config.get("intermediate_size"))
    return any(isinstance(width, int) and width % K_BLOCK for width in widths)


def _level(name: str) -> Wanted:
    if name not in LEVELS:
        if not LEVELS[3:]:
            return Wanted(kind="gguf", level=name)  # llama-cpp-python is missing, which is said before anything begins
        raise UnknownNameError("GGUF level", name, LEVELS, "Q4_K_M is small, Q8_0 close to the original.")
    return Wanted(kind="gguf", level=name)
