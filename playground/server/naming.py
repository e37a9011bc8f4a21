"""Model ids of the API: `name`, `name:adapter`, `name:adapter:Q4_K_M`, made from the catalogue. Nothing is loaded."""

import re
from difflib import get_close_matches
from pathlib import PurePath

from playground.catalogue.variants import Adapter, Catalogue, Gguf, Variant
from playground.server.wire.errors import ApiError

LEVEL = re.compile(r"(?:.*[-_.])?((?:I?Q|TQ)\d\w*|BF16|F16|F32)", re.IGNORECASE)


class Names:
    """The ids of a catalogue's variants, in its order; a variant answers to its catalogue name as well."""

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
        """The id and the variant that a request means; an unknown name is OpenAI's 404, with near matches."""
        if name in self._by_id:
            return name, self._by_id[name]
        if name in self._ids:
            return self._ids[name], self.catalogue.get(name)
        known = sorted({*self._by_id, *self._ids})
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "GET /v1/models lists them all."
        raise ApiError(404, f"The model '{name[:200]}' does not exist. {hint}", "model", "model_not_found")

    def _free(self, variant: Variant) -> str:
        """The id of a variant, its own name where that id means another one."""
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
    """A GGUF's quantization level as its file's name, or its own, tells it; else its whole name."""
    for name in (variant.file or variant.source, variant.name):
        found = LEVEL.fullmatch(PurePath(name).name.removesuffix(".gguf"))
        if found:
            return found[1].upper()
    return variant.name
