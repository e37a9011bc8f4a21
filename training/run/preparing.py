"""Prepare a run: find the base, read and check the data, estimate memory, tokenize the rows.

`look` writes nothing, and is what --dry-run shows; `write` then fills the run's folder.
"""

import json
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from playground.catalogue.files import read_json
from playground.catalogue.variants import Base
from playground.compare import Playground
from playground.errors import ConfigError
from playground.settings import Settings
from playground.system import hardware
from playground.workers.loadable import Loader
from training import passthrough
from training import recipe as recipes
from training.data import mix, sources, tokenized
from training.data.encoder import Encoder
from training.data.findings import fatal, listed
from training.data.formats import Data, check_method, convert, unpaired, wanted_format
from training.data.lengths import Lengths
from training.data.report import Report, inspect
from training.methods import METHODS
from training.recipe import Recipe, Source
from training.run import memory, parameters
from training.run.registering import find_base
from training.run.runs import Model, Plan, Run
from training.trainer import loading

PACKED_LENGTH = 1024
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
CHUNKED = "chunked_nll"
PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "bitsandbytes", "unsloth")
Benchmark = Callable[[Path | None], Iterable[tuple[str, str]]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Download:
    """Weights that are not here yet: bytes to come, the folder they will lie in, and the bytes that are free there.

    `apart`: that is another disk than the run's. `estimated`: the config alone tells the size.
    """

    size: int
    folder: Path
    free: int
    apart: bool
    estimated: bool


@dataclass(frozen=True)
class Prepared:
    """A run that could begin: the recipe written out, its rows, and what it will take."""

    recipe: Recipe
    model: Model
    encoder: Encoder
    report: Report
    train: Data
    evaluation: Data | None
    plan: Plan
    parameters: parameters.Parameters
    estimate: memory.Estimate
    engine: str
    download: "Download | None" = None

    @property
    def steps(self) -> int:
        """Return about how many optimizer steps there will be; packs and cut rows change the number a little."""
        trainer = self.recipe.trainer
        if int(trainer.get("max_steps") or -1) > 0:
            return int(trainer["max_steps"])
        rows = len(self.train)
        if METHODS[self.recipe.method].rewarded:  # TRL leaves out, each time, the prompts that fill no last batch
            rows = rows // self.prompts * self.recipe.answered * int(trainer.get("num_iterations") or 1)
        if trainer.get("packing") and self.report.lengths is not None:
            kept = self.report.lengths.mean * rows
            rows = max(1, round(kept / self.plan.max_length))
        each = -(-rows // self.recipe.effective_batch)
        return max(1, round(each * float(trainer["num_train_epochs"])))

    @property
    def prompts(self) -> int:
        """Return how many prompts GRPO answers at once."""
        return int(self.recipe.answered // self.recipe.trainer["num_generations"])


def look(
    settings: Settings,
    recipe: Recipe,
    benchmark: Benchmark | None = None,
    progress: Progress = lambda what: None,
    weights: bool = True,
) -> Prepared:
    """Find, read, check and estimate; raise for whatever training could not use. Nothing is written.

    `weights`: have them here. A dry run does without: config and tokenizer tell everything.
    """
    on_card = hardware.vram_total() > 0
    _check_machine(recipe, settings.data, on_card)
    written, recipe = recipe, recipes.resolved(recipe, on_card)
    progress("Checking the recipe")
    passthrough.check(recipe)
    recipe = passthrough.coerced(recipe)
    engine = loading.engine(recipe)
    progress(f"Looking for {recipe.model}")
    base, catalogue = find_base(settings, recipe.model)
    loader = Loader(settings, catalogue, Playground(settings).hub)
    folder, coming = (Path(loader.loadable(base).spec.path), 0) if weights else loader.described(base)
    named = recipe.data.prompt_format or catalogue.prompt_format(base)
    encoder = Encoder(folder, named, recipe.model, recipe.data.answers_only)
    progress("Reading the data")
    train, evaluation = _data(recipe)
    progress("Checking the data")
    report = inspect(train, encoder, recipe.trainer.get("max_length"), benchmark(None) if benchmark else None)
    _refuse(report, "data.source")
    measured = [report.lengths]
    if evaluation is not None:
        evaluated = inspect(evaluation, encoder, recipe.trainer.get("max_length"))
        _refuse(evaluated, "data.evaluation")
        measured.append(evaluated.lengths)
        if isinstance(recipe.data.evaluation, str):  # of rows held out the report tells already
            report = replace(report, findings=[*report.findings, *mix.named(evaluated.findings, evaluation)])
    if recipe.method == "kto":
        train, evaluation = unpaired(train), evaluation and unpaired(evaluation)
    rewarded = METHODS[recipe.method].rewarded
    length = _with_answers(recipe, train, measured) if rewarded else _max_length(written, recipe, report)
    plan = _plan(recipe, length)
    progress("Counting parameters")
    counted = parameters.count(folder, recipe.lora)
    plan = plan.model_copy(update={"whole_logits": _whole_logits(recipe, counted.head)})
    download = _download(settings, folder, coming, counted.shape)
    estimated = memory.estimate(counted.shape, _memory_plan(recipe, plan, counted.trainable, engine, on_card, download))
    model = _model(recipe, base, encoder, report)
    return Prepared(recipe, model, encoder, report, train, evaluation, plan, counted, estimated, engine, download)


def _check_machine(recipe: Recipe, data: Path, on_card: bool) -> None:
    """Refuse a recipe that asks for cards that are not there."""
    if recipe.load_in_4bit and not on_card:
        raise ConfigError(
            "load_in_4bit: true needs an NVIDIA GPU, and this machine has none.", "Leave it out: CPUs train in float32."
        )
    if recipe.devices > 1 and on_card and recipe.devices > (cards := len(memory.machine(data).cards)):
        raise ConfigError(
            f"devices: {recipe.devices}, and this machine has {cards} GPUs.", "Ask for as many as there are."
        )


def _model(recipe: Recipe, base: Base, encoder: Encoder, report: Report) -> Model:
    return Model(
        name=recipe.model,
        source=base.source,
        folder=str(encoder.folder),
        prompt_format=None if recipe.method == "cpt" else encoder.format_used,
        context=_context(report),
    )


def _plan(recipe: Recipe, length: int) -> Plan:
    trainer = recipe.trainer
    return Plan(
        batch=trainer["per_device_train_batch_size"],
        accumulation=trainer["gradient_accumulation_steps"],
        checkpointing=bool(trainer.get("gradient_checkpointing")),
        max_length=length,
        rank=recipe.lora["r"],
    )


def _whole_logits(recipe: Recipe, head: bool) -> bool:
    """Return whether the loss must take all logits at once; refuse a recipe that asks for chunks all the same."""
    asked = recipe.trainer.get("loss_type")
    if head and asked == CHUNKED:
        raise ConfigError(
            f"trainer.loss_type = {asked!r}: it passes over an adapter on the output layer (lora.target_modules).",
            "Leave it out, or say loss_type: nll.",
        )
    return head and not METHODS[recipe.method].compares


def write(run: Run, prepared: Prepared) -> None:
    """Fill the run's folder with what its trainer reads."""
    run.write("model.json", prepared.model.model_dump_json(indent=1))
    run.write("plan.json", prepared.plan.model_dump_json(indent=1))
    run.write("versions.json", json.dumps(versions(), indent=1))
    for place, named in enumerate(prepared.recipe.reward, start=1):  # as it was: what a run learnt is in its folder
        run.write(f"reward-{place}.py", Path(named.rpartition(":")[0]).read_text(encoding="utf-8"))
    for finding in prepared.report.findings:
        run.happened("data", f"{finding.message}: {listed(finding.rows) or 'whole file'}. {finding.remedy}")
    for split, data in (("train", prepared.train), ("evaluation", prepared.evaluation)):
        if data is not None:
            path = run.data / f"{split}.arrow"
            tokenized.write(path, data.examples, prepared.encoder)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run runs on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _read(source: Source, recipe: Recipe) -> Data:
    table = sources.read(source.source, source.split, source.limit)
    form = wanted_format(source.format, recipe.method)
    return convert(table, form, source.columns, recipe.data.roles_to_train)


def _data(recipe: Recipe) -> tuple[Data, Data | None]:
    """Read training and evaluation rows; general rows are mixed into the former alone."""
    train = _read(recipe.data, recipe)
    check_method(train, recipe.method)
    evaluation: Data | None = None
    asked = recipe.data.evaluation
    if isinstance(asked, str):
        evaluation = _read(recipe.data.model_copy(update={"source": asked, "limit": None}), recipe)
        check_method(evaluation, recipe.method)
    elif asked is not None:
        train, evaluation = mix.held_out(train, float(asked), recipe.seed)
    if recipe.data.mix:
        train = mix.mixed(train, _read(recipe.data.mix, recipe), recipe.data.mix.share, recipe.seed)
    return train, evaluation


def _refuse(report: Report, what: str) -> None:
    if said := fatal(report.findings):
        raise ConfigError(
            f"{what}: {report.data.name} cannot be trained on: {said}.",
            "`madang data check` says more; --fix clean.jsonl writes a copy that can.",
        )


def _context(report: Report) -> int:
    context = report.lengths.context if report.lengths else None
    return context or 1 << 20


def _with_answers(recipe: Recipe, train: Data, measured: Iterable[Lengths | None]) -> int:
    """Return the tokens of the longest prompt with the longest answer to it; refuse what cannot be answered."""
    trainer = recipe.trainer
    lengths = [one for one in measured if one is not None]
    longest, most = max(one.maximum for one in lengths), int(trainer["max_completion_length"])
    context = lengths[0].context or longest + most
    if longest + most > context:
        raise ConfigError(
            f"The longest prompt has {longest:,} tokens: with trainer.max_completion_length = {most:,} that is more "
            f"than the {context:,} that {recipe.model} takes.",
            "Lower trainer.max_completion_length, or leave long prompts out.",
        )
    prompts = recipe.answered // int(trainer["num_generations"])
    if len(train) < prompts:
        raise ConfigError(
            f"GRPO answers {prompts} prompts at once, and {train.name} has {len(train)} to train on.",
            "Lower trainer.per_device_train_batch_size or gradient_accumulation_steps, or give more prompts.",
        )
    return longest + most


def _max_length(written: Recipe, recipe: Recipe, report: Report) -> int:
    """Return the recipe's length, else what the data needs, else the method's; never more than the model's context."""
    context, asked = _context(report), written.trainer.get("max_length")
    if asked is not None and asked > context:
        raise ConfigError(
            f"trainer.max_length = {asked}: {recipe.model} takes {context} tokens at most.",
            f"Give {context} or less, or leave it out.",
        )
    length = recipe.trainer.get("max_length")
    if length is None:
        assert report.lengths is not None
        length = report.lengths.recommended
        if recipe.trainer.get("packing"):
            length = max(length, PACKED_LENGTH)
    return min(int(length), context)


def _download(settings: Settings, folder: Path, coming: int | None, shape: parameters.Shape) -> Download | None:
    """Return what is still to come of a base's weights; None where they are here."""
    if coming == 0:
        return None
    size = coming if coming is not None else shape.total * BYTES.get(_kept_in(folder), 2)
    data = settings.data
    while not data.exists():
        data = data.parent
    apart = data.stat().st_dev != folder.stat().st_dev
    return Download(size, folder, shutil.disk_usage(folder).free, apart, estimated=coming is None)


def _kept_in(folder: Path) -> str:
    """Return the dtype that a config.json names for a model's weights; empty where it names none."""
    config = read_json(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "")


def _memory_plan(  # noqa: PLR0913 - all that decides it
    recipe: Recipe, plan: Plan, trainable: int, engine: str, on_card: bool, download: Download | None
) -> memory.Plan:
    bits: Literal[4, 16, 32] = 4 if recipe.load_in_4bit else 16 if on_card and recipe.dtype != "fp32" else 32
    return memory.Plan(
        trainable=trainable,
        method=recipe.method,
        engine="unsloth" if engine == "unsloth" else "peft",
        device="cuda" if on_card else "cpu",
        bits=bits,
        batch=plan.batch,
        accumulation=plan.accumulation,
        length=plan.max_length,
        answer=int(recipe.trainer.get("max_completion_length") or 0),
        generated=recipe.answered // recipe.devices,
        packing=bool(recipe.trainer.get("packing")),
        full_logits=plan.whole_logits or None,
        optimizer=str(recipe.trainer.get("optim")),
        checkpointing="unsloth" if engine == "unsloth" and plan.checkpointing else plan.checkpointing,
        kept=int(recipe.trainer["save_total_limit"]),
        download=download.size if download is not None and not download.apart else 0,
    )
