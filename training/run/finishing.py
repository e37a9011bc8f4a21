"""A finished run's adapter joins the catalogue, and its base where that was not there yet. Trains nothing."""

from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Catalogue
from playground.settings import Settings
from training.run.preparing import find_base, free_name
from training.run.runs import Run


def register(settings: Settings, run: Run) -> str:
    """Add the adapter; its name. Registering a run twice gives the name it has already."""
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
