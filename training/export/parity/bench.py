"""The variants of one check, loaded as in Chat: the source in fp32 and builds that no catalogue names yet."""

from playground.catalogue.hub import Hub, HuggingFaceHub
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.compare import Playground
from playground.errors import ConfigError, VariantError
from playground.prompts import PromptFormat, choose
from playground.protocol import Vocabulary
from playground.settings import Settings
from playground.workers.loadable import Loadable, Loader


class Bench(Playground):
    """A playground whose catalogue also holds what is being checked. `close` ends its workers."""

    def __init__(self, settings: Settings, source: str, hub: Hub | None = None) -> None:
        super().__init__(settings, hub or HuggingFaceHub())
        self._catalogue = Catalogue.load(settings)
        self.source = self._exact(source)

    @property
    def catalogue(self) -> Catalogue:
        """The user's catalogue, with the source in fp32 and the builds."""
        return self._catalogue

    def _exact(self, name: str) -> Base | Adapter:
        """The source, and what it stands on, in fp32: the yardstick has no rounding of its own."""
        variant = self._catalogue.get(name)
        if not isinstance(variant, Base | Adapter):
            what = "a GGUF build itself" if isinstance(variant, Gguf) else "answered elsewhere"
            raise ConfigError(f"{name!r} is {what}.", "Name the adapter or the base it was made from.")
        base = self._catalogue.base_of(variant)
        assert base is not None
        self._put(base.model_copy(update={"dtype": "fp32", "load_in_4bit": False}))
        found = self._catalogue.get(name)
        assert isinstance(found, Base | Adapter)
        return found

    def _put(self, variant: Base | Adapter | Gguf) -> None:
        self._catalogue = self._catalogue.with_variant(variant)

    def place(self, built: Base | Adapter | Gguf) -> Base | Adapter | Gguf:
        """Add a build, by a name of its own so that it never stands in for its source; folders run in fp32."""
        named = built if built.name != self.source.name else built.model_copy(update={"name": f"{built.name}-built"})
        if isinstance(named, Base):
            named = named.model_copy(update={"dtype": "fp32"})
        self._put(named)
        return named

    def loadable(self, variant: Base | Adapter | Gguf) -> Loadable:
        """What a worker would load of it: its files checked and, where need be, downloaded."""
        return Loader(self.settings, self.catalogue, self.hub).loadable(variant)

    def unload(self, variant: Base | Adapter | Gguf) -> None:
        """Stop its worker, if it has one of its own."""
        for loaded in self.pool.loaded():
            if loaded.spec.name == variant.name:
                self.pool.unload(loaded.spec)

    def format_of(self, variant: Base | Adapter | Gguf, words: Vocabulary) -> PromptFormat | None:
        """The template it is asked with; None where it has none."""
        try:
            return choose(variant.name, words.template, self.catalogue.prompt_format(variant))
        except VariantError:
            return None
