"""Find what each variant descends from: in its run's own facts, in the catalogue, or by its name. Opens no model."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from eval.results import Facts
from playground.catalogue.variants import Catalogue

QUANT = re.compile(r"(?:UD-)?(?:I?Q\d\w*|T?Q\d_\w+|B?F16|F32|MXFP4\w*)", re.IGNORECASE)
MERGED = re.compile(r"merged?(?:[-_.]\w+)?", re.IGNORECASE)
BUILDS = ("gguf", "merged", "gptq", "quantized")


@dataclass(frozen=True)
class Lineage:
    """A variant's kind, what it descends from directly and at the root; `path` sorts it under them."""

    kind: str
    parent: str | None = None
    base: str | None = None
    path: tuple[str, ...] = ()

    @property
    def is_build(self) -> bool:
        """Return whether it is the same model in another form, so that the question is what was lost."""
        return self.kind in BUILDS


def of(names: Sequence[str], facts: Mapping[str, Facts], catalogue: Catalogue | None = None) -> dict[str, Lineage]:
    """Return each variant's lineage; a name that nobody knows and that follows no convention stands alone as a base.

    The convention holds only below a name that is there: `llama3:8b` of another program is no adapter.
    """
    known = {
        *names,
        *(catalogue.names if catalogue else ()),
        *((one.base or "").partition(":")[0] for one in facts.values()),
    }
    steps = {name: _step(name, facts.get(name), catalogue, known) for name in names}
    return {name: _lineage(name, steps, facts, catalogue, known) for name in names}


def _lineage(
    name: str,
    steps: Mapping[str, tuple[str, str | None]],
    facts: Mapping[str, Facts],
    catalogue: Catalogue | None,
    known: Container[str],
) -> Lineage:
    kind, parent = steps[name]
    path = [name]
    current = parent
    while current is not None and current not in path:
        path.insert(0, current)
        current = (steps.get(current) or _step(current, facts.get(current), catalogue, known))[1]
    return Lineage(kind, parent, path[0] if parent else None, tuple(path))


def _step(name: str, facts: Facts | None, catalogue: Catalogue | None, known: Container[str]) -> tuple[str, str | None]:
    """Return the kind and the direct parent of one variant; facts come first, then the catalogue, then the name."""
    kind, parent = _by_catalogue(name, catalogue) or _by_name(name, known)
    if facts is not None:
        return facts.kind or kind, facts.base or parent
    return kind, parent


def _by_catalogue(name: str, catalogue: Catalogue | None) -> tuple[str, str | None] | None:
    if catalogue is None or name not in catalogue.names:
        return None
    variant = catalogue.get(name)
    return variant.kind, getattr(variant, "base", None)


def _by_name(name: str, known: Container[str]) -> tuple[str, str | None]:
    """Return kind and parent by the convention `name`, `name:adapter`, `name:adapter:QUANT` and `name:QUANT`."""
    parent, _, last = name.rpartition(":")
    if not parent or name.partition(":")[0] not in known:
        return "base", None
    if QUANT.fullmatch(last):
        return "gguf", parent
    return ("merged" if MERGED.fullmatch(last) else "adapter"), parent
