"""From a variant to the spec that a worker loads: fetches and checks files, and decides which variants share one."""

from dataclasses import dataclass, replace
from pathlib import Path

from playground.catalogue import adapters, files, gguf_files, grown, quantized
from playground.catalogue.hub import Hub, choose_gguf
from playground.catalogue.remarks import Remark, remarks
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote, Stored, Variant
from playground.errors import VariantError
from playground.protocol import Address, ModelSpec
from playground.settings import Settings
from playground.system import hardware
from playground.system.progress import Tell
from playground.wording import worded


@dataclass(frozen=True)
class Loadable:
    """The worker a variant runs in, and the adapter its rows run with there (None: the loaded model itself)."""

    spec: ModelSpec
    adapter: str | None = None
    apart: str = ""
    """Why its rows do not decode in one batch with its base's; empty where they do, or where it is no adapter."""
    prompt_format: str | None = None
    """The named format it is asked in; None for the chat template that it brings."""


@dataclass(frozen=True)
class Loader:
    """Makes variants loadable: downloads what is on the Hub, then checks every file before an engine sees it."""

    settings: Settings
    catalogue: Catalogue
    hub: Hub

    def loadable(self, variant: Variant, progress: Tell = lambda done, what: None) -> Loadable:
        """Return the spec of a variant; raises VariantError or HubError with the reason and the remedy."""
        found = self._found(variant, progress)
        folder = Path(found.adapter) if found.adapter else None
        return replace(found, prompt_format=self.catalogue.prompt_format(variant, folder))

    def _found(self, variant: Variant, progress: Tell) -> Loadable:
        if isinstance(variant, Remote):
            return Loadable(remote_spec(variant))
        if isinstance(variant, Adapter):
            return self._adapter(variant, progress)
        if variant.is_fake:
            return self._fake(variant)
        if isinstance(variant, Gguf):
            return Loadable(self._gguf_spec(variant, progress))
        return Loadable(self._base_spec(variant, progress))

    def remarks(self, variant: Variant, found: Loadable) -> list[Remark]:
        """Return what people should know of a variant that was found loadable, before they use it."""
        if isinstance(variant, Remote) or variant.is_fake:
            return []
        adapter = Path(found.adapter) if found.adapter else None
        return remarks(variant, Path(found.spec.path), adapter, found.prompt_format)

    def described(self, base: Base, progress: Tell = lambda done, what: None) -> tuple[Path, int | None]:
        """Return a folder with a base's config and tokenizer, checked, and the bytes of weights that are still to come.

        0: they are here, and checked as `loadable` does; None: nobody says how many. Weights are never fetched.
        """
        if base.is_local:
            folder, coming = base.path, files.weights_to_come(base.path) if base.path.is_dir() else 0
        else:
            folder, coming = self.hub.fetch_plan(base.source, base.revision, progress)
        if coming == 0:
            return Path(self.loadable(base, progress).spec.path), 0
        files.check_described(folder)
        files.check_suited(folder)
        _check_4bit(base, folder)
        return folder, coming

    def foreseen(self, variant: Variant, progress: Tell = lambda done, what: None) -> list[Remark]:
        """Judge a base on the Hub by its config and tokenizer, before its weights come; an adapter's by its base's."""
        base = self.catalogue.get(variant.base) if isinstance(variant, Adapter) else variant
        if not isinstance(base, Base) or base.is_local:
            return []
        folder, _ = self.described(base, progress)
        return remarks(base, folder, None, self.catalogue.prompt_format(base)) if base is variant else []

    def download_bytes(self, variant: Variant) -> int:
        """Return the bytes still to be downloaded for a variant and its base; 0 for local, cached and remote ones."""
        total = 0
        if isinstance(variant, Remote):
            return total
        if isinstance(variant, Adapter):
            total += self.download_bytes(self.catalogue.get(variant.base))
        if self.is_here(variant):
            return total
        found = self.hub.files(variant.source, variant.revision, ["*.gguf"] if isinstance(variant, Gguf) else None)
        if isinstance(variant, Gguf):
            found = choose_gguf(variant.source, found, variant.file)
        return total + sum(file.size for file in found if not file.cached)

    def is_here(self, variant: Stored) -> bool:
        """Return whether a variant's own files need no download; asks no network, so a GGUF has to be named for it."""
        name = variant.file if isinstance(variant, Gguf) else None
        if variant.is_local or (isinstance(variant, Gguf) and name is None):
            return variant.is_local
        return self.hub.here(variant.source, variant.revision, name) is not None

    def _base_spec(self, base: Base, progress: Tell) -> ModelSpec:
        folder = self._folder(base, progress)
        files.check_base(folder)
        files.check_loadable(folder)
        _check_4bit(base, folder)
        return ModelSpec(
            engine="transformers",
            name=base.name,
            path=str(folder),
            dtype=base.dtype,
            load_in_4bit=base.load_in_4bit,
            context=base.context,
            threads=self._threads(),
        )

    def _adapter(self, adapter: Adapter, progress: Tell) -> Loadable:
        base = self.catalogue.get(adapter.base)
        if not isinstance(base, Base):
            raise VariantError(worded("loadable.not_base_model", base=adapter.base, adapter=adapter.name))
        if base.is_fake:
            return Loadable(self._fake(base).spec, adapter.source)
        spec = self._base_spec(base, progress)
        folder = self._folder(adapter, progress)
        found = adapters.read(folder, Path(spec.path))
        grown.rows(found, Path(spec.path))
        if adapter.context in (None, spec.context):
            return Loadable(spec, str(folder), found.beyond_plain)
        alone = {"name": adapter.name, "context": adapter.context}
        return Loadable(spec.model_copy(update=alone), str(folder), "it has a context of its own")

    def _gguf_spec(self, gguf: Gguf, progress: Tell) -> ModelSpec:
        path = self._file(gguf, progress)
        gguf_files.check(path)
        return ModelSpec(
            engine="llama_cpp",
            name=gguf.name,
            path=str(path),
            gpu_layers=gguf.gpu_layers if hardware.vram_total() else 0,
            context=gguf.context,
            threads=self._threads(),
        )

    def _folder(self, variant: Base | Adapter, progress: Tell) -> Path:
        if variant.is_local:
            return variant.path
        return self.hub.fetch_folder(variant.source, variant.revision, progress)

    def _file(self, gguf: Gguf, progress: Tell) -> Path:
        if not gguf.is_local:
            return self.hub.fetch_file(gguf.source, gguf.file, gguf.revision, progress)
        return gguf_files.chosen(gguf.path, gguf.file)

    def _fake(self, variant: Base | Gguf) -> Loadable:
        spec = ModelSpec(engine="fake", name=variant.name, path=variant.source, context=variant.context)
        return Loadable(spec)

    def _threads(self) -> int:
        return self.settings.threads or hardware.usable_cores()


def _check_4bit(base: Base, folder: Path) -> None:
    """Refuse a row that asks for 4 bits where the weights are packed otherwise, or where nothing computes with them."""
    if base.load_in_4bit:
        quantized.not_twice(base.name, quantized.method(files.read_json(folder / "config.json")))
    if base.load_in_4bit and not hardware.vram_total():
        raise VariantError(
            worded("loadable.asks_load_bit", base=base.name),
        )


def remote_spec(remote: Remote) -> ModelSpec:
    """Return the spec of a remote variant's worker; its server is not asked."""
    address = Address(url=remote.url, model=remote.model, key_env=remote.key_env, timeout_s=remote.timeout_s)
    return ModelSpec(engine="openai", name=remote.name, path=remote.url, context=remote.context, remote=address)
