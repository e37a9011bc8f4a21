"""The catalogue as the API reads it: once for each change of its files, so that a request costs little."""

import threading
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from playground.catalogue.variants import BUILT_IN, Variant
from playground.compare import Playground
from playground.protocol import ModelSpec
from playground.server.naming import Names
from playground.server.wire.errors import ApiError
from playground.workers.loadable import FetchProgress, Loadable, Loader

Stamp = tuple[tuple[int, int], ...]


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
        told = f"{self.loadable.spec.model_dump_json()} {self.loadable.adapter}"
        return f"fp_{sha256(told.encode()).hexdigest()[:10]}"


@dataclass
class _Read:
    """One state of the catalogue's files, and the variants that were found loadable in it."""

    stamp: Stamp
    names: Names
    loader: Loader
    created: int
    loadables: dict[str, Loadable] = field(default_factory=dict)


class Known:
    """Models by the name that a request gives. Everything here reads files: never call it on the event loop."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._lock = threading.Lock()
        self._read: _Read | None = None

    def names(self) -> Names:
        """The ids of the catalogue as its files are now."""
        return self._fresh().names

    def created(self) -> int:
        """When the catalogue was last changed, in seconds since 1970."""
        return self._fresh().created

    def target(self, name: str, progress: FetchProgress) -> Target:
        """The model of a name, fetched where it is not here yet. Its files are checked until a worker has them."""
        read = self._fresh()
        model_id, variant = read.names.find(name)
        found = read.loadables.get(model_id)
        if found is None or found.spec not in self._loaded():
            found = read.loadables[model_id] = read.loader.loadable(variant, progress)
        return Target(model_id, variant, read.names.catalogue.prompt_format(variant), found)

    def only(self) -> str:
        """The model that a request means which names none: the only one loaded, or the only one there is."""
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
    """When a file was changed last (ns) and how long it is; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
