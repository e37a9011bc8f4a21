"""A look over this machine, and what of it can be added to the catalogue: under which name, with which base."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path
from typing import Any

from playground.catalogue import gguf_files, variants
from playground.catalogue.discovery import folders, hub_cache, ollama
from playground.catalogue.discovery.found import FOLDER, HUB, Found, Look
from playground.catalogue.names import NAME
from playground.catalogue.remarks import Remark
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote, Variant
from playground.errors import ConfigError, MadangError, VariantError
from playground.settings import Environment
from playground.wording import worded

OLLAMA_HOMES = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")


@dataclass(frozen=True)
class Offer:
    """A model that was found, and how it stands to the catalogue."""

    found: Found
    name: str
    """What it is called in the catalogue, or would be."""
    listed: bool = False
    base: str | None = None
    """Of an adapter that can be added: the catalogue's name of its base, or the name that this would get."""
    needs: Found | None = None
    """The base that has to be added before it."""
    obstacle: Remark | None = None
    """Why it cannot be added; None where it can."""

    @property
    def notes(self) -> tuple[Remark, ...]:
        """What to know of it before it is added."""
        needs = (Remark("found.needs", {"base": self.needs.title}),) if self.needs else ()
        return (*needs, *self.found.notes)


def look_around(folder: str = "") -> Look:
    """Look where programs keep models, and into a folder that the owner names; raises ConfigError where it is none."""
    from huggingface_hub.constants import HF_HUB_CACHE

    look, home = Look(), Path.home()
    if folder:
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise ConfigError(worded("offers.no_folder", folder=folder))
        folders.look_at(root, look, FOLDER)
    hub_cache.look_at(Path(HF_HUB_CACHE).expanduser(), look)
    own = Environment().ollama_models
    homes = (Path(name).expanduser() for name in ((own,) if own else OLLAMA_HOMES))
    for root in dict.fromkeys(map(Path, map(realpath, homes))):
        ollama.look_at(root, look)
    folders.look_at_lm_studio(home, look)
    return look


def offers(look: Look, catalogue: Catalogue) -> list[Offer]:
    """Return what was found with the names it has or would get; the same files by two ways are told once."""
    known = {
        place: variant.name for variant in catalogue if not isinstance(variant, Remote) for place in _places(variant)
    }
    taken, seen, made = set(catalogue.names), set(), []
    for found in _bases_first(look.found):
        place = realpath(found.path)
        if place in seen:
            continue
        seen.add(place)
        name = _known(found, known)
        if name:
            made.append(Offer(found, name, listed=True))
            continue
        offer = _offer(found, catalogue, made, taken)
        taken.add(offer.name)
        made.append(offer)
    return made


def row(offer: Offer) -> Variant:
    """Return the catalogue row that an offer would become; raises VariantError where it cannot be added."""
    if offer.obstacle or offer.listed:
        raise VariantError(worded("offers.not_offered", offer=offer.name))
    found = offer.found
    fields: dict[str, object] = {"kind": found.kind, "name": offer.name, "source": found.source, "base": offer.base}
    fields |= {"file": found.file, "revision": found.revision, "context": found.context}
    return variants.parse({key: value for key, value in fields.items() if value is not None}, found.title)


def _bases_first(found: Iterable[Found]) -> list[Found]:
    """Return adapters after the bases they may name."""
    return sorted(found, key=lambda one: one.kind == "adapter")


def _places(variant: Base | Adapter | Gguf) -> Iterator[tuple[Any, ...]]:
    """Yield what tells that a model that was found is this variant."""
    if variant.is_fake:
        return
    if not variant.is_local:
        yield variant.kind, variant.source, variant.file if isinstance(variant, Gguf) else None
        return
    path = variant.path
    if isinstance(variant, Gguf):
        try:
            path = gguf_files.chosen(path, variant.file)
        except (MadangError, OSError):
            return
    yield (realpath(path),)


def _known(found: Found, known: dict[tuple[Any, ...], str]) -> str:
    """Return the name that a model has in the catalogue; empty where it is not there."""
    for place in ((realpath(found.path),), (found.kind, found.source, found.file), (found.kind, found.source, None)):
        if place in known:
            return known[place]
    return ""


def _offer(found: Found, catalogue: Catalogue, made: Iterable[Offer], taken: Collection[str]) -> Offer:
    """Return a model with a name of its own, and an adapter's base: in the catalogue, or among what was found."""
    plain = named(found)
    if found.kind != "adapter" or found.obstacle:
        return Offer(found, free(plain, taken), obstacle=found.obstacle)
    here = next((one.name for one in catalogue if isinstance(one, Base) and _is_base(found.base, one.source)), None)
    if here is not None:
        return Offer(found, free(f"{here}:{plain}", taken), base=here)
    for other in made:
        if other.found.kind == "base" and not other.obstacle and _is_base(found.base, other.found.source):
            needs = None if other.listed else other.found
            return Offer(found, free(f"{other.name}:{plain}", taken), base=other.name, needs=needs)
    return Offer(found, free(plain, taken), obstacle=Remark("found.no_base", {"base": found.base or "?"}))


def _is_base(named: str, source: str) -> bool:
    """Return whether an adapter's name for its base is that source: a Hub id in any letters, or the same folder."""
    return bool(named) and (
        named.lower() == source.lower() or (named.startswith("/") and realpath(named) == realpath(source))
    )


def named(found: Found) -> str:
    """Return what a model is called by its own files: letters and signs that a name may have."""
    title = found.title
    if found.file or (found.kind == "gguf" and title.lower().endswith(".gguf")):
        title = gguf_files.stem(title.rpartition("/")[2])
    elif found.place == HUB or "/" in title:
        title = title.rpartition("/")[2]
    title = re.sub(r"[^\w.:+-]+", "-", title.removesuffix(":latest")).strip("-.:+")
    return title if NAME.fullmatch(title) else "model"


def free(name: str, taken: Collection[str]) -> str:
    """Return the name, or the same with the first number that nobody has."""
    number, made = 2, name
    while made in taken:
        made, number = f"{name}-{number}", number + 1
    return made
