"""What the list of variants says of each: its base, kind, size, dtype, and whether it is loaded. HTML out.

The list is Gradio's own; the page's script (page.js) dresses its rows with what stands here.
"""

from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote, Variant
from playground.compare import Playground
from playground.escape import escaped
from playground.page.cards import badge
from playground.page.number import size
from playground.page.words import both
from playground.ui.models_rows import bytes_of, state, worker_of
from playground.workers.pool import Loaded

SCRIPT = "madang.dresses(element)"


def ordered(catalogue: Catalogue) -> list[str]:
    """Return the names with what descends from a base behind it; what descends from none of the catalogue comes last.

    Within a base the catalogue's order stays.
    """
    groups: dict[str, list[str]] = {variant.name: [] for variant in catalogue if isinstance(variant, Base)}
    for variant in catalogue:
        base = catalogue.base_of(variant)
        groups.setdefault(base.name if base else "", []).append(variant.name)
    return [name for group in groups.values() for name in group]


def facts(playground: Playground) -> str:
    """Return what there is to say of each variant. Visitors of a Space learn of no files and of nobody's answers."""
    catalogue, mine = playground.catalogue, playground.settings.mode == "local"
    loaded = playground.pool.loaded()
    rows = "".join(_row(variant, catalogue, loaded, mine) for variant in catalogue)
    return f"<div hidden>{rows}</div>"


def _row(variant: Variant, catalogue: Catalogue, loaded: list[Loaded], mine: bool) -> str:
    base = catalogue.base_of(variant)
    worker = worker_of(variant, loaded)
    weighs = bytes_of(variant) if mine and not isinstance(variant, Remote) and variant.is_local else 0
    parts = [badge(variant.kind), size(weighs) if weighs else "", escaped(dtype(variant, catalogue, loaded))]
    parts += [state(worker)] if mine and not isinstance(variant, Remote) else []
    group = both("chat.baseless") if base is None else escaped(base.name)
    said = "".join(f"<span>{part}</span>" for part in parts if part)
    return f'<p data-variant="{escaped(variant.name)}"><b>{group}</b><span class="facts">{said}</span></p>'


def dtype(variant: Variant, catalogue: Catalogue, loaded: list[Loaded]) -> str:
    """Return the number format that a variant is loaded with, else the one it is listed with; empty where unknown."""
    owners = {variant.name, variant.base if isinstance(variant, Adapter) else variant.name}
    here = [row.info.dtype for row in loaded if row.spec.name in owners]
    if here:
        return here[0]
    base = catalogue.base_of(variant)
    if isinstance(variant, Gguf | Remote) or base is None:
        return ""
    return "nf4" if base.load_in_4bit else base.dtype.replace("auto", "")
