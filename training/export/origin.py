"""Where an export comes from: a finished run or an adapter of the catalogue, with its base. Builds nothing."""

import re
from dataclasses import dataclass
from pathlib import Path

from playground.catalogue.files import read_json
from playground.catalogue.variants import HUB_ID, Adapter, Base, Catalogue
from playground.compare import Playground
from playground.errors import ConfigError, UnknownNameError, VariantError
from playground.settings import Settings
from playground.workers.loadable import Loader
from training.export.shards import is_4bit
from training.run import registering, runs
from training.run.runs import Run

UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Origin:
    """An adapter variant with everything on this machine that it is made of; `run` is what trained it, if known."""

    variant: Adapter
    base: Base
    adapter_folder: Path
    base_folder: Path
    prompt_format: str | None
    run: Run | None = None

    @property
    def stem(self) -> str:
        """What file names begin with: the model's own name and the adapter's."""
        named = str(read_json(self.adapter_folder / "adapter_config.json").get("base_model_name_or_path") or "")
        model = named.rstrip("/").rpartition("/")[2] or self.base.name
        return UNSAFE.sub("-", f"{model}-{self.variant.name.removeprefix(f'{self.base.name}:')}").strip("-.")

    @property
    def rows(self) -> Path | None:
        """The tokenized rows it was trained on, if they are still there."""
        rows = self.run.data / "train.arrow" if self.run else None
        return rows if rows is not None and rows.exists() else None

    @property
    def notes(self) -> list[str]:
        """What people should know about the base that the adapter is merged into."""
        if is_4bit(self.base_folder):
            return [f"{self.base.name} is stored in 4 bits: the adapter is merged into its weights dequantized."]
        if self.base.load_in_4bit or (self.run is not None and self.run.recipe().load_in_4bit):
            return [f"Trained on {self.base.name} in 4 bits; merged into its original weights in {self.base_folder}."]
        return []


def find(settings: Settings, name: str) -> Origin:
    """Find an adapter of the catalogue, or a finished run by id or folder; wrong names get near matches of both."""
    catalogue = Catalogue.load(settings)
    if name in catalogue.names:
        variant = catalogue.get(name)
        if not isinstance(variant, Adapter):
            under = [other.name for other in catalogue if isinstance(other, Adapter) and other.base == name]
            hint = f"Its adapters: {', '.join(under)}." if under else "Name an adapter or a run."
            raise VariantError(f"{name!r} is no adapter: it is of the kind {variant.kind}.", hint)
        return _of_variant(settings, catalogue, variant)
    known = {run.name for run in runs.listed(settings)}
    if name not in known and not (Path(name) / "recipe.yaml").is_file():
        adapters = [variant.name for variant in catalogue if isinstance(variant, Adapter)]
        raise UnknownNameError("run or adapter", name, [*known, *adapters], "`madang runs` lists the runs.")
    return _of_run(settings, runs.find(settings, name))


def _of_run(settings: Settings, run: Run) -> Origin:
    state = run.state()
    if state.status != "done" or not (run.adapter / "adapter_config.json").is_file():
        at = f"at step {state.step} of {state.steps or '?'}"
        at += ", without an adapter" if state.status == "done" else ""
        raise ConfigError(
            f"The run {run.name} is not done: it is {state.status} {at}.",
            f"madang train --resume {run.name} goes on with it.",
        )
    name = registering.register(settings, run)
    catalogue = Catalogue.load(settings)
    variant = catalogue.get(name)
    assert isinstance(variant, Adapter)
    base = catalogue.get(variant.base)
    assert isinstance(base, Base)
    return Origin(variant, base, run.adapter, Path(run.model().folder), catalogue.prompt_format(variant), run)


def _of_variant(settings: Settings, catalogue: Catalogue, variant: Adapter) -> Origin:
    base = catalogue.get(variant.base)
    assert isinstance(base, Base)  # the catalogue does not load otherwise
    if base.is_fake or variant.is_fake:
        raise VariantError(f"{variant.name!r} stands for no files, so there is nothing to export.", "Name another.")
    loader = Loader(settings, catalogue, Playground(settings).hub)
    base_folder = Path(loader.loadable(base.model_copy(update={"load_in_4bit": False})).spec.path)
    folder = variant.path
    if HUB_ID.fullmatch(variant.source):
        folder = loader.hub.fetch_folder(variant.source, variant.revision, lambda done, what: None)
    trained = [run for run in runs.listed(settings) if run.state().variant == variant.name]
    run = trained[0] if trained else None
    return Origin(variant, base, folder, base_folder, catalogue.prompt_format(variant, folder), run)
