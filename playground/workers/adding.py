"""Adds what was found on this machine to the catalogue: files are checked where they are, and nothing is fetched."""

from dataclasses import dataclass, replace

from playground.catalogue import variants
from playground.catalogue.discovery.offers import Offer, row
from playground.catalogue.remarks import Remark
from playground.catalogue.variants import Adapter, Catalogue
from playground.workers.loadable import Loader


@dataclass(frozen=True)
class Added:
    """A variant that is in the catalogue now, and what people should know of it."""

    name: str
    remarks: tuple[Remark, ...] = ()


def add(loader: Loader, offer: Offer) -> list[Added]:
    """Check and add what is offered, an adapter's base before it. Raises VariantError, with nothing of it written."""
    variant = row(offer)
    before = add(loader, Offer(offer.needs, offer.base or "")) if offer.needs else []
    catalogue = Catalogue.load(loader.settings).with_variant(variant)
    loader = replace(loader, catalogue=catalogue)
    base = catalogue.base_of(variant) if isinstance(variant, Adapter) else None
    remarks: list[Remark] = []
    if base is None or loader.is_here(base):
        remarks = loader.remarks(variant, loader.loadable(variant))
    variants.add(loader.settings, variant)
    return [*before, Added(variant.name, (*offer.found.notes, *remarks))]
