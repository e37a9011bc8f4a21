"""A run in the catalogue: the base that it begins with, and the adapter that it leaves. Trains nothing."""

from pathlib import Path

from playground.catalogue import variants
from playground.catalogue.variants import HUB_ID, Adapter, Base, Catalogue
from playground.errors import VariantError
from playground.settings import Settings
from training.run.runs import Run


def find_base(settings: Settings, name: str) -> tuple[Base, Catalogue]:
    """Return the base that a recipe names, and a catalogue that has it; a folder or Hub id joins that copy alone."""
    catalogue = Catalogue.load(settings)
    if name in catalogue.names:
        variant = catalogue.get(name)
        if not isinstance(variant, Base):
            base = catalogue.base_of(variant)
            hint = f"Train its base, {base.name}." if base else "Name a base model."
            raise VariantError(f"{name!r} is no base model: it is of the kind {variant.kind}.", hint)
        return variant, catalogue
    path = Path(name).expanduser()
    if not path.exists() and not HUB_ID.fullmatch(name):
        catalogue.get(name)  # raises with near matches
    source = str(path.resolve()) if path.exists() else name
    base = Base(name=free_name(catalogue, name.rstrip("/").rpartition("/")[2]), source=source)
    return base, catalogue.with_variant(base)


def base_of(settings: Settings, name: str) -> str:
    """Return the name of an adapter's base in the catalogue."""
    catalogue = Catalogue.load(settings)
    found = catalogue.base_of(catalogue.get(name))
    return found.name if found else name


def free_name(catalogue: Catalogue, wanted: str) -> str:
    """Return the name, with a number behind it where another variant has it."""
    number, name = 1, wanted
    while name in catalogue.names:
        number += 1
        name = f"{wanted}-{number}"
    return name


def register(settings: Settings, run: Run) -> str:
    """Add a finished run's adapter, and its base where that is new; return its name, the same for the same run."""
    had = run.state().variant
    if had and had in Catalogue.load(settings).names:
        return had
    recipe, model = run.recipe(), run.model()
    base, _ = find_base(settings, model.name)
    if base.name not in Catalogue.load(settings).names:
        variants.add(settings, base)
    catalogue = Catalogue.load(settings)
    own = catalogue.prompt_format(base)
    adapter = Adapter(
        name=free_name(catalogue, f"{base.name}:{recipe.name}"),
        source=str(run.adapter.resolve()),
        base=base.name,
        prompt_format=model.prompt_format if model.prompt_format != own else None,
    )
    variants.add(settings, adapter)
    run.tell(variant=adapter.name)
    return adapter.name
