"""Built artefacts as variants: how they are asked while they are judged, and how they join the catalogue."""

from pathlib import Path

from playground.catalogue import variants
from playground.catalogue.variants import Base, Catalogue, Gguf, Stored
from playground.settings import Settings
from training.export.origin import Origin
from training.export.plan import Wanted
from training.run.registering import free_name

Built = Base | Gguf


def built(origin: Origin, wanted: Wanted, path: Path) -> Built:
    """Return an artefact as a variant: `name:adapter:Q4_K_M`, `…:merged`, `…:GPTQ`. Adapters are variants already."""
    name = f"{origin.variant.name}:{wanted.label}"
    if wanted.kind == "gguf":
        return Gguf(name=name, source=str(path.resolve()), base=origin.variant.name)
    return Base(name=name, source=str(path.resolve()), prompt_format=origin.prompt_format)


def register(settings: Settings, variant: Built) -> str:
    """Add it under its name, or that name with a number where another has it; what is there already stays as it is."""
    catalogue = Catalogue.load(settings)
    for other in catalogue:
        if isinstance(other, Base | Gguf) and other.source == variant.source:
            return other.name
    added = variant.model_copy(update={"name": free_name(catalogue, variant.name)})
    variants.add(settings, added)
    return added.name


def by_place(catalogue: Catalogue) -> dict[Path, str]:
    """Return the names of local variants by the file or folder that they are."""
    return {variant.path: variant.name for variant in catalogue if isinstance(variant, Stored) and variant.is_local}
