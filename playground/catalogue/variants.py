"""What can be asked: Variant = Base | Adapter | Gguf | Remote, and the catalogue that names them.

Nobody else asks whether a path ends in `.gguf`. The catalogue is data: the built-in `variants.toml` beside this file,
then the user's own `variants.toml` in the data folder, which may override a built-in name.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tomlkit
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from playground.catalogue.adapters import folder_template
from playground.catalogue.addresses import checked_address
from playground.catalogue.names import Name, PromptFormat
from playground.errors import ConfigError, UnknownNameError, VariantError
from playground.settings import Settings
from playground.system import documents
from playground.system.atomic import explained, replacing
from playground.system.locks import locked
from playground.values import Value
from playground.wording import joined, worded

BUILT_IN = Path(__file__).with_name("variants.toml")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ROW = re.compile(r"\s*\[\[\s*variant\s*\]\]")
SECRETIVE = ("key_env", "url")
"""Fields whose wrong values are not shown: people paste keys and passwords there."""
FAKE = "fake:"
"""Sources that begin so run on backends/fake.py: for tests and page work, without a model."""
LOCK_S = 10.0
Dtype = Literal["auto", "bf16", "fp16", "fp32"]


class _Variant(Value):
    """What every kind has: a name, and how it is prompted."""

    name: Name
    prompt_format: PromptFormat = Field(default=None, description="named format, for models without a template")
    context: int | None = Field(default=None, ge=64, description="tokens of prompt and answer together")


class Stored(_Variant):
    """What the kinds have that run on this machine: where their files are."""

    source: str = Field(min_length=1, description="Hub id (owner/name), or a folder or file")
    revision: str | None = Field(default=None, description="Hub branch, tag or commit")

    @property
    def is_fake(self) -> bool:
        """Whether backends/fake.py plays it: nothing is fetched, and no file of it is read. Counts as local."""
        return self.source.startswith(FAKE)

    @property
    def is_local(self) -> bool:
        """Whether the source is a path on this machine rather than a Hub id; the catalogue has made paths absolute."""
        return not HUB_ID.fullmatch(self.source)

    @property
    def path(self) -> Path:
        """The source as a path; only meaningful where `is_local`."""
        return Path(self.source)


class Base(Stored):
    """A whole model: safetensors in a folder or on the Hub, run by transformers."""

    kind: Literal["base"] = "base"
    dtype: Dtype = "auto"
    load_in_4bit: bool = Field(default=False, description="NF4 through bitsandbytes; needs an NVIDIA GPU")


class Adapter(Stored):
    """A LoRA adapter on a named base; it shares the base's weights in the base's worker where its kind allows."""

    kind: Literal["adapter"] = "adapter"
    base: str


class Gguf(Stored):
    """A GGUF file, run by llama.cpp; `base` names the variant it was built from, if that is in the catalogue."""

    kind: Literal["gguf"] = "gguf"
    base: str | None = None
    file: str | None = Field(default=None, description="the file inside a Hub repository or folder")
    gpu_layers: int | Literal["auto"] = Field(default="auto", description="layers on the GPU; auto: all, if it can")


class Remote(_Variant):
    """A model behind an OpenAI-compatible address: vLLM, SGLang, llama-server, Ollama or another Madang.

    The key is never in the file, only the name of the environment variable that holds it.
    """

    kind: Literal["remote"] = "remote"
    url: str = Field(description="base address, normally ending in /v1")
    model: str | None = Field(default=None, min_length=1, description="its name there; the only one by default")
    base: str | None = Field(default=None, description="what it was made from, if that is in the catalogue")
    key_env: str | None = Field(default=None, description="environment variable that holds the key")
    timeout_s: float = Field(default=120.0, gt=0, le=3600, description="longest silence of the server, in seconds")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        return checked_address(url)

    @field_validator("key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not VARIABLE.fullmatch(name):
            raise ValueError("the name of an environment variable is wanted here, never the key itself")
        return name


Variant: TypeAlias = Annotated[Base | Adapter | Gguf | Remote, Field(discriminator="kind")]
_VARIANT: TypeAdapter[Variant] = TypeAdapter(Variant)


class Catalogue:
    """Variants by name, in the order of the files. Reading collects every fault before it complains."""

    def __init__(self, variants: Iterable[Variant], path: Path | None = None) -> None:
        self._by_name = {variant.name: variant for variant in variants}
        self.path = path
        if faults := _link_faults(self._by_name):
            raise ConfigError(
                joined(faults), worded("variants.correct_base", path=self.path or worded("variants.the_catalogue"))
            )

    @classmethod
    def load(cls, settings: Settings) -> "Catalogue":
        """Return the built-in variants, then the user's own; later rows replace earlier ones of the same name."""
        variants, faults, broken = _read(BUILT_IN, settings)
        if settings.catalogue.exists():
            own, faults, broken = _read(settings.catalogue, settings)
            variants += own
        faults += _link_faults({variant.name: variant for variant in variants}, broken)
        if faults:
            raise _faulty(settings.catalogue, faults)
        return cls(variants, settings.catalogue)

    def __iter__(self) -> Iterator[Variant]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names(self) -> list[str]:
        """Every name, built-in ones first."""
        return list(self._by_name)

    def get(self, name: str) -> Variant:
        """Return the variant of that name, or an error with near matches."""
        if name not in self._by_name:
            raise UnknownNameError(worded("noun.variant"), name, self._by_name, worded("variants.list_all"))
        return self._by_name[name]

    def with_variant(self, variant: Variant) -> "Catalogue":
        """Return the same catalogue with one variant added or replaced, not written anywhere."""
        return Catalogue([*(v for v in self if v.name != variant.name), variant], self.path)

    def base_of(self, variant: Variant) -> Base | None:
        """Return the base model that a variant descends from, however many steps away."""
        current: Variant | None = variant
        while current is not None and not isinstance(current, Base):
            current = self._by_name.get(current.base) if current.base else None
        return current

    def prompt_format(self, variant: Variant, folder: Path | None = None) -> str | None:
        """Return the named prompt format of a variant: its own, else that of what it descends from.

        None where an adapter on the way brings a chat template. `folder`: where the variant's own files are.
        """
        current: Variant | None = variant
        while current is not None:
            if current.prompt_format:
                return current.prompt_format
            if isinstance(current, Adapter) and folder_template(folder or current.path):
                return None
            parent = None if isinstance(current, Base) else current.base
            current = self._by_name.get(parent) if parent else None
        return None


def load_or_none(settings: Settings) -> Catalogue | None:
    """Return the catalogue that a form offers variants of; None where it cannot be read (the Models tab says why)."""
    with suppress(ConfigError):
        return Catalogue.load(settings)
    return None


def _link_faults(by_name: dict[str, Variant], broken: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with `base` anywhere; rows named in `broken` exist, though they could not be read."""
    faults: list[str] = []
    for variant in by_name.values():
        parent = None if isinstance(variant, Base) else variant.base
        if parent is None or parent in broken:
            continue
        if parent not in by_name:
            error = UnknownNameError(worded("noun.variant"), parent, by_name.keys() - {variant.name})
            faults.append(worded("variants.base_unknown", variant=variant.name, message=error.message, hint=error.hint))
        elif isinstance(variant, Adapter) and not isinstance(by_name[parent], Base):
            faults.append(worded("variants.adapter_needs_base", variant=variant.name, parent=parent))
        elif _is_its_own_ancestor(variant, by_name):
            faults.append(worded("variants.own_ancestor", variant=variant.name))
    return faults


def _is_its_own_ancestor(variant: Variant, by_name: dict[str, Variant]) -> bool:
    seen = {variant.name}
    current = variant
    while not isinstance(current, Base) and current.base in by_name:
        current = by_name[current.base]
        if current.name in seen:
            return True
        seen.add(current.name)
    return False


def read(path: Path, settings: Settings) -> list[Variant]:
    """Return the variants of one TOML file; all its faults are reported in one error."""
    variants, faults, _ = _read(path, settings)
    if faults:
        raise _faulty(path, faults)
    return variants


def _faulty(path: Path, faults: list[str]) -> ConfigError:
    return ConfigError(worded("variants.faults", path=path, faults=joined(faults)))


def _read(path: Path, settings: Settings) -> tuple[list[Variant], list[str], set[str]]:
    """Return the variants of one TOML file, all its faults, and the names of the rows that have them."""
    rows = documents.read(path, "TOML")
    faults: list[str] = [worded("variants.unknown_table", key=key) for key in rows if key != "variant"]
    tables = rows.get("variant", [])
    variants: list[Variant] = []
    broken: set[str] = set()
    for number, row in enumerate(tables if isinstance(tables, list) else [tables], start=1):
        name = str(row.get("name", f"number {number}")) if isinstance(row, dict) else f"number {number}"
        try:
            variants.append(_VARIANT.validate_python(_placed(row, path.parent, settings)))
        except ValidationError as error:
            broken.add(name)
            faults += [worded("variants.row_fault", name=name, fault=_fault(fault)) for fault in error.errors()]
    names = [variant.name for variant in variants]
    faults += [worded("variants.stands_twice", name=name) for name in sorted({n for n in names if names.count(n) > 1})]
    return variants, faults, broken


def parse(row: dict[str, object], what: str) -> Variant:
    """Return one variant from its fields; every fault in one error."""
    try:
        return _VARIANT.validate_python(row)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise ConfigError(worded("variants.faults2", what=what, faults=faults)) from error


def _fault(error: Any) -> str:
    """Return one pydantic fault as `field = value: what is wrong`, without the union's own branch name."""
    place = ".".join(str(part) for part in error["loc"][1:]) or "kind"
    unsaid = error["type"] == "missing" or isinstance(error["input"], dict) or place in SECRETIVE
    value = "" if unsaid else f" = {error['input']!r}"
    return f"{place}{value}: {error['msg'].removeprefix('Value error, ').lower()}"


def _placed(row: Any, folder: Path, settings: Settings) -> Any:
    """Return the row with {models}, ~ and relative paths in its source resolved."""
    source = row.get("source") if isinstance(row, dict) else None
    if not isinstance(source, str) or not source:
        return row
    return row | {"source": placed(source.replace("{models}", str(settings.models_dir)), folder)}


def placed(source: str, folder: Path = Path()) -> str:
    """Return a source as the catalogue keeps it: a path, seen from `folder`, as an absolute one; a Hub id as it is.

    What ends in .gguf is a file, there or not: one that is missing is told by its name, and not looked for on the Hub.
    """
    if source.startswith(FAKE):
        return source
    path = folder / Path(source).expanduser()
    is_path = source.startswith((".", "~")) or source.lower().endswith(".gguf") or path.exists()
    return absolute(path) if is_path or not HUB_ID.fullmatch(source) else source


def absolute(path: Path) -> str:
    """Return a path as the catalogue keeps it; a file's own link stays, since shards are found by its name."""
    path = path.expanduser()
    return str(path.resolve() if path.is_dir() else path.parent.resolve() / path.name)


def add(settings: Settings, variant: Variant, replace: bool = False) -> None:
    """Write one variant into the user's catalogue, keeping the file's comments; whole or not at all."""
    with _editing(settings.catalogue):
        _add(settings, variant, replace)


def _add(settings: Settings, variant: Variant, replace: bool) -> None:
    catalogue = Catalogue.load(settings)
    if not replace:
        check_new(catalogue, variant)
    catalogue.with_variant(variant)  # its links must hold
    text = _text(settings.catalogue)
    if any(row.get("name") == variant.name for row in _rows(settings.catalogue)):
        text = _without(settings.catalogue, variant.name)
    fields = variant.model_dump(exclude_defaults=True)
    where = {name: fields[name] for name in ("source", "url") if name in fields}
    row = {"name": variant.name, "kind": variant.kind} | where | fields
    _write(settings.catalogue, f"{text.rstrip()}\n\n[[variant]]\n{tomlkit.dumps(row)}".lstrip())


def check_new(catalogue: Catalogue, variant: Variant) -> None:
    """Refuse a name that another variant has. The same files or server once more are the same variant, changed."""
    if variant.name in catalogue.names and _place(catalogue.get(variant.name)) != _place(variant):
        raise VariantError(worded("variants.variant_named_already", variant=variant.name))


def _place(variant: Variant) -> tuple[str, str]:
    return variant.kind, variant.url if isinstance(variant, Remote) else variant.source


def remove(settings: Settings, name: str) -> None:
    """Take one variant out of the user's catalogue, keeping the file's comments; its files stay where they are."""
    with _editing(settings.catalogue):
        _remove(settings, name)


def _remove(settings: Settings, name: str) -> None:
    rows = _rows(settings.catalogue)
    built_in = name in [row["name"] for row in documents.read(BUILT_IN, "TOML")["variant"]]
    if name not in [row.get("name") for row in rows]:
        Catalogue.load(settings).get(name)
        raise VariantError(worded("variants.built_cannot_removed", name=name))
    children = [str(row.get("name")) for row in rows if row.get("base") == name and row.get("name") != name]
    if children and not built_in:
        raise VariantError(worded("variants.still_build", children=", ".join(children), name=name))
    _write(settings.catalogue, _without(settings.catalogue, name))


@contextmanager
def _editing(path: Path) -> Iterator[None]:
    """Hold the file: of two programs that read, change and write it at once, one would lose its row."""
    refusal = ConfigError(worded("variants.being_changed_another", path=path))
    with explained(path), locked(path.with_name(f".{path.name}.lock"), refusal, LOCK_S):
        yield


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the user's catalogue as they stand there; refuses a file that cannot be edited row by row."""
    rows = documents.read(path, "TOML").get("variant", []) if path.exists() else []
    headers = [line for line in _text(path).splitlines() if ROW.match(line)]
    if not isinstance(rows, list) or len(headers) != len(rows):
        raise ConfigError(worded("variants.cannot_edited_here", path=path))
    return rows


def _without(path: Path, name: str) -> str:
    """Return the file's text without the row of that name; comments below it, which may speak of the next row, stay."""
    lines = _text(path).splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if ROW.match(line)] + [len(lines)]
    for index, row in reversed(list(enumerate(_rows(path)))):
        if row.get("name") == name:
            begin, end = starts[index], starts[index + 1]
            while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
                end -= 1
            del lines[begin:end]
    return "".join(lines)


def _write(path: Path, text: str) -> None:
    """Replace the file whole or not at all; what would not read back is not written."""
    tomllib.loads(text)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
