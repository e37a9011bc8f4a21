"""The catalogue as the API serves it: model ids `name`, `name:adapter`, `name:adapter:Q4_K_M`, and what they load.

It is read once for each change of its files, so that a request costs little.
"""

import re
import threading
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path, PurePath

from playground.catalogue import gguf_files
from playground.catalogue.variants import BUILT_IN, Adapter, Catalogue, Gguf, Variant
from playground.compare import Playground
from playground.protocol import ModelSpec
from playground.server.wire.errors import ApiError
from playground.system.progress import Tell
from playground.workers.loadable import Loadable, Loader

Stamp = tuple[tuple[int, int], ...]
LEVEL = re.compile(r"(?:.*[-_.])?((?:I?Q|TQ)\d\w*|BF16|F16|F32)", re.IGNORECASE)


class Names:
    """The ids of a catalogue's variants, in its order; a variant can be asked for by its catalogue name as well."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._by_id: dict[str, Variant] = {}
        for variant in catalogue:
            self._by_id[self._free(variant)] = variant
        self._ids = {variant.name: model_id for model_id, variant in self._by_id.items()}

    @property
    def ids(self) -> list[str]:
        """Every id, in the catalogue's order."""
        return list(self._by_id)

    def find(self, name: str) -> tuple[str, Variant]:
        """Return the id and the variant of a name; raises OpenAI's 404, with near matches, for an unknown one."""
        if name in self._by_id:
            return name, self._by_id[name]
        if name in self._ids:
            return self._ids[name], self.catalogue.get(name)
        known = sorted({*self._by_id, *self._ids})
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "GET /v1/models lists them all."
        raise ApiError(404, f"The model '{name[:200]}' does not exist. {hint}", "model", "model_not_found")

    def _free(self, variant: Variant) -> str:
        """Return the id of a variant: its catalogue name where the id is another variant's."""
        model_id = self._id(variant)
        taken = model_id in self._by_id or (model_id in self.catalogue.names and model_id != variant.name)
        return variant.name if taken else model_id

    def _id(self, variant: Variant) -> str:
        if not isinstance(variant, Adapter | Gguf) or not variant.base:
            return variant.name
        parent = self.catalogue.get(variant.base)
        if variant.name.startswith(f"{parent.name}:"):
            last = variant.name.removeprefix(f"{parent.name}:")
        else:
            last = _level(variant) if isinstance(variant, Gguf) else variant.name
        return f"{self._id(parent)}:{last}"


def _level(variant: Gguf) -> str:
    """Return a GGUF's quantization level, read from its file's name or its own; its whole name where neither has it."""
    for name in (variant.file or variant.source, variant.name):
        found = LEVEL.fullmatch(gguf_files.stem(PurePath(name).name))
        if found:
            return found[1].upper()
    return variant.name


@dataclass(frozen=True)
class Target:
    """A model that was asked for, with what its worker loads."""

    id: str
    variant: Variant
    prompt_format: str | None
    loadable: Loadable

    @property
    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: the same as long as engine, files and settings of the model are."""
        facts = f"{self.loadable.spec.model_dump_json()} {self.loadable.adapter}"
        return f"fp_{sha256(facts.encode()).hexdigest()[:10]}"


@dataclass
class _Read:
    """The catalogue at one state of its files, and the variants that were found loadable then."""

    stamp: Stamp
    names: Names
    loader: Loader
    created: int
    loadables: dict[str, Loadable] = field(default_factory=dict)


class ServedModels:
    """Models by the name that a request gives. Everything here reads files: never call it on the event loop."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._lock = threading.Lock()
        self._read: _Read | None = None

    def names(self) -> Names:
        """Return the ids of the catalogue as its files are now."""
        return self._fresh().names

    def created(self) -> int:
        """When the catalogue was last changed, in seconds since 1970."""
        return self._fresh().created

    def target(self, name: str, progress: Tell) -> Target:
        """Return the model of a name, fetched where it is not here yet; its files are checked unless it is loaded."""
        read = self._fresh()
        model_id, variant = read.names.find(name)
        found = read.loadables.get(model_id)
        if found is None or found.spec not in self._loaded():
            found = read.loadables[model_id] = read.loader.loadable(variant, progress)
        return Target(model_id, variant, found.prompt_format, found)

    def only(self) -> str:
        """Return the name of the model for a request that names none: the only one loaded, or the only one there is."""
        names, loaded = self.names(), [spec.name for spec in self._loaded()]
        candidates = loaded or names.ids
        if len(candidates) == 1:
            return candidates[0]
        raise ApiError(400, "Several models can be meant: name one.", "model", "missing_required_parameter")

    def _loaded(self) -> list[ModelSpec]:
        return [row.spec for row in self._playground.pool.loaded()]

    def _fresh(self) -> _Read:
        with self._lock:
            stamp = tuple(_stamp(path) for path in (BUILT_IN, self._playground.settings.catalogue))
            if self._read is None or self._read.stamp != stamp:
                catalogue = self._playground.catalogue
                loader = Loader(self._playground.settings, catalogue, self._playground.hub)
                self._read = _Read(stamp, Names(catalogue), loader, max(at for at, _ in stamp) // 10**9)
            return self._read


def _stamp(path: Path) -> tuple[int, int]:
    """Return when a file was last changed (ns) and its size in bytes; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
