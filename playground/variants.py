"""What can be asked: Variant = Base | Adapter | Gguf, and the catalogue that names them.

Nobody else asks whether a path ends in `.gguf`. The catalogue is data: the built-in `variants.toml` beside this file,
then the user's own `variants.toml` in the data folder, which may override a built-in name.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from playground.errors import ConfigError, UnknownNameError, VariantError
from playground.prompts import format_names
from playground.settings import Settings

BUILT_IN = Path(__file__).with_name("variants.toml")
NAME = re.compile(r"^\w[\w.:+/-]*$")
HUB_ID = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")
FAKE = "fake:"
"""Sources that begin so run on backends/fake.py: for tests and page work, without a model."""
Dtype = Literal["auto", "bf16", "fp16", "fp32"]


class _Variant(BaseModel):
    """What every kind has: a name, where its files are, and how it is prompted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = Field(min_length=1, description="Hub id (owner/name), or a folder or file")
    revision: str | None = Field(default=None, description="Hub branch, tag or commit")
    prompt_format: str | None = Field(default=None, description="named prompt format, for models without a template")
    context: int | None = Field(default=None, ge=64, description="tokens of prompt and answer together")

    @field_validator("name")
    @classmethod
    def _readable_name(cls, name: str) -> str:
        if not NAME.match(name):
            raise ValueError("a name begins with a letter or digit and holds letters, digits and . _ - + : / alone")
        return name

    @field_validator("prompt_format")
    @classmethod
    def _known_format(cls, name: str | None) -> str | None:
        if name is not None and name not in format_names():
            raise ValueError(f"known prompt formats: {', '.join(format_names())}")
        return name

    @property
    def is_local(self) -> bool:
        """Whether the source is a path on this machine rather than a Hub id."""
        return not HUB_ID.match(self.source) or Path(self.source).exists()

    @property
    def path(self) -> Path:
        """The source as a path; only meaningful where `is_local`."""
        return Path(self.source)


class Base(_Variant):
    """A whole model: safetensors in a folder or on the Hub, run by transformers."""

    kind: Literal["base"] = "base"
    dtype: Dtype = "auto"
    load_in_4bit: bool = Field(default=False, description="NF4 through bitsandbytes; needs an NVIDIA GPU")


class Adapter(_Variant):
    """A LoRA adapter on a named base; it shares the base's weights in the base's worker where its kind allows."""

    kind: Literal["adapter"] = "adapter"
    base: str


class Gguf(_Variant):
    """A GGUF file, run by llama.cpp; `base` names the variant it was built from, if that is in the catalogue."""

    kind: Literal["gguf"] = "gguf"
    base: str | None = None
    file: str | None = Field(default=None, description="the file inside a Hub repository or folder")
    gpu_layers: int | Literal["auto"] = Field(default="auto", description="layers on the GPU; auto: all, if it can")


Variant = Annotated[Base | Adapter | Gguf, Field(discriminator="kind")]
_VARIANT: TypeAdapter[Base | Adapter | Gguf] = TypeAdapter(Variant)


class Catalogue:
    """Variants by name, in the order of the files. Reading collects every fault before it complains."""

    def __init__(self, variants: Iterable[Base | Adapter | Gguf], path: Path | None = None) -> None:
        self._by_name = {variant.name: variant for variant in variants}
        self.path = path
        self._check_links()

    @classmethod
    def load(cls, settings: Settings) -> "Catalogue":
        """The built-in variants, then the user's own; later rows replace earlier ones of the same name."""
        variants = read(BUILT_IN, settings)
        if settings.catalogue.exists():
            variants += read(settings.catalogue, settings)
        return cls(variants, settings.catalogue)

    def __iter__(self) -> Iterator[Base | Adapter | Gguf]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names(self) -> list[str]:
        """Every name, built-in ones first."""
        return list(self._by_name)

    def get(self, name: str) -> Base | Adapter | Gguf:
        """The variant of that name, or an error with near matches."""
        if name not in self._by_name:
            raise UnknownNameError("variant", name, self._by_name, "`madang models` lists them all.")
        return self._by_name[name]

    def with_variant(self, variant: Base | Adapter | Gguf) -> "Catalogue":
        """The same catalogue with one variant added or replaced, not written anywhere."""
        return Catalogue([*(v for v in self if v.name != variant.name), variant], self.path)

    def base_of(self, variant: Base | Adapter | Gguf) -> Base | None:
        """The base model that a variant descends from, however many steps away."""
        current: Base | Adapter | Gguf | None = variant
        while current is not None and not isinstance(current, Base):
            current = self._by_name.get(current.base) if current.base else None
        return current

    def prompt_format(self, variant: Base | Adapter | Gguf) -> str | None:
        """The named prompt format of a variant: its own, else that of what it descends from."""
        current: Base | Adapter | Gguf | None = variant
        while current is not None:
            if current.prompt_format:
                return current.prompt_format
            parent = None if isinstance(current, Base) else current.base
            current = self._by_name.get(parent) if parent else None
        return None

    def _check_links(self) -> None:
        faults = []
        for variant in self._by_name.values():
            parent = None if isinstance(variant, Base) else variant.base
            if parent is not None and parent not in self._by_name:
                faults.append(str(UnknownNameError(f"base for {variant.name!r}", parent, self._by_name)))
            elif isinstance(variant, Adapter) and not isinstance(self._by_name[variant.base], Base):
                faults.append(f"{variant.name!r} is an adapter on {variant.base!r}, which is not a base.")
            elif self._is_its_own_ancestor(variant):
                faults.append(f"{variant.name!r} descends from itself.")
        if faults:
            raise ConfigError(" ".join(faults), f"Correct `base` in {self.path or 'the catalogue'}.")

    def _is_its_own_ancestor(self, variant: Base | Adapter | Gguf) -> bool:
        seen = {variant.name}
        current = variant
        while not isinstance(current, Base) and current.base in self._by_name:
            current = self._by_name[current.base]
            if current.name in seen:
                return True
            seen.add(current.name)
        return False


def read(path: Path, settings: Settings) -> list[Base | Adapter | Gguf]:
    """The variants of one TOML file; all its faults are reported in one error."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.", "Correct the line that it names.") from error
    variants: list[Base | Adapter | Gguf] = []
    faults = [f"unknown table [{key}]: only [[variant]] is read" for key in rows if key != "variant"]
    tables = rows.get("variant", [])
    for number, row in enumerate(tables if isinstance(tables, list) else [tables], start=1):
        try:
            variants.append(_VARIANT.validate_python(_placed(row, path.parent, settings)))
        except ValidationError as error:
            faults += [f"variant {row.get('name', f'number {number}')}: {_fault(e)}" for e in error.errors()]
    names = [variant.name for variant in variants]
    faults += [f"variant {name}: the name stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise ConfigError(f"{path} has faults: {'; '.join(faults)}.", "Correct them; README.md shows the fields.")
    return variants


def parse(row: dict[str, object], what: str) -> Base | Adapter | Gguf:
    """One variant from its fields; every fault in one error."""
    try:
        return _VARIANT.validate_python(row)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise ConfigError(f"{what} has faults: {faults}.", "README.md shows the fields of each kind.") from error


def _fault(error: object) -> str:
    """One pydantic fault as `field: what is wrong (value)`, without the union's own branch names."""
    assert isinstance(error, dict)
    place = ".".join(
        str(part) for part in error["loc"] if part not in {"base", "adapter", "gguf"} or error["loc"][-1] == part
    )
    return f"{place or 'kind'}: {error['msg'].lower()}"


def _placed(row: dict[str, object], folder: Path, settings: Settings) -> dict[str, object]:
    """The row with {models}, ~ and relative paths in its source resolved."""
    source = row.get("source")
    if not isinstance(source, str) or source.startswith(FAKE):
        return row
    source = source.replace("{models}", str(settings.models_dir))
    path = Path(source).expanduser()
    looks_local = source.startswith((".", "~")) or (folder / path).exists()
    if path.is_absolute() or looks_local or not HUB_ID.match(source):
        source = str((folder / path).resolve()) if not path.is_absolute() else str(path)
    return row | {"source": source}


def add(settings: Settings, variant: Base | Adapter | Gguf, replace: bool = False) -> None:
    """Write one variant into the user's catalogue, keeping the file's comments; whole or not at all."""
    catalogue = Catalogue.load(settings)
    if variant.name in catalogue.names and not replace:
        raise VariantError(f"There is a variant named {variant.name!r} already.", "Choose another name, or replace it.")
    catalogue.with_variant(variant)  # its links must hold
    row = variant.model_dump(exclude_defaults=True) | {"name": variant.name, "kind": variant.kind}
    document = _document(settings.catalogue)
    kept = [old for old in document.get("variant", []) if old.get("name") != variant.name]
    _write(settings.catalogue, document, [*kept, row])


def remove(settings: Settings, name: str) -> None:
    """Take one variant out of the user's catalogue; its files stay where they are."""
    document = _document(settings.catalogue)
    rows = list(document.get("variant", []))
    kept = [row for row in rows if row.get("name") != name]
    if len(kept) == len(rows):
        Catalogue.load(settings).get(name)
        raise VariantError(f"{name!r} is built in and cannot be removed.", "Hide it by not choosing it.")
    children = [row["name"] for row in kept if row.get("base") == name]
    if children:
        raise VariantError(f"{', '.join(children)} still build on {name!r}.", "Remove those first.")
    _write(settings.catalogue, document, kept)


def _document(path: Path) -> tomlkit.TOMLDocument:
    return tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()


def _write(path: Path, document: tomlkit.TOMLDocument, rows: list[dict[str, object]]) -> None:
    tables = tomlkit.aot()
    for row in rows:
        table = tomlkit.table()
        table.update(row)
        tables.append(table)
    document["variant"] = tables
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".toml.new")
    beside.write_text(tomlkit.dumps(document), encoding="utf-8")
    beside.replace(path)
