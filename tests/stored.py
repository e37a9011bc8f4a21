"""A variant of a catalogue as one with files, for tests that know that it has them."""

from playground.catalogue.variants import Catalogue, Stored


def stored(catalogue: Catalogue, name: str) -> Stored:
    """The variant of that name, which is no server elsewhere."""
    variant = catalogue.get(name)
    assert isinstance(variant, Stored)
    return variant
