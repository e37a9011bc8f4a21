"""Run lm-eval on a variant: the only caller of lm-eval's evaluator. Prompts, few-shot and metrics stay lm-eval's.

A run killed at any moment goes on where it was: answers are saved piece by piece, result files appear whole.
"""

import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from eval import kobest
from eval.origin import folder_name
from eval.progress import Progress
from eval.results import Facts
from eval.suites import Suite, samples
from eval.writing import write
from playground.catalogue.files import model_files
from playground.catalogue.variants import Base, Gguf, Remote, Stored, Variant
from playground.compare import Playground
from playground.errors import MadangError
from playground.measure import drift
from playground.measure.probe import Probe, probing
from playground.settings import set_defaults
from playground.system.atomic import explained
from playground.workers.loadable import Loadable

Tell = Callable[[Progress], None]
MEASURES = ("speed", "drift")
THOUGHTS = ("closed", "answers", "unfinished")
"""Counts of what became of thoughts (eval.lm.Count)."""


class EvalError(MadangError):
    """A run that cannot be made or must not be believed."""


@dataclass(frozen=True)
class Plan:
    """One run: a variant, a suite with its tasks, limit and sample, how many shots, and where rows come from."""

    variant: str
    suite: Suite
    shots: int = 0
    data: Path | None = None
    chat_template: bool = False


@dataclass
class Run:
    """Scores plans; holds what all plans of one call share."""

    playground: Playground
    out: Path
    tell: Tell = lambda progress: None
    cancelled: Callable[[], bool] = lambda: False
    measures: tuple[str, ...] = MEASURES
    _readings: dict[str, drift.Reading] = field(default_factory=dict)

    def score(self, plan: Plan) -> Path:
        """Run one plan and write its files; return the path of results_<iso>.json.

        Raises EvalError for a run whose choices cannot be told apart, and eval.lm.Cancelled.
        """
        self.playground.catalogue.get(plan.variant)
        with explained(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        if plan.data is not None:  # read when `evaluate` is imported: do not ask the Hub for a metric lm-eval has
            set_defaults(HF_EVALUATE_OFFLINE="1")
            _rows(plan, plan.data, self.out / ".rows")  # first: a broken line must not wait until a model has loaded
        with quiet(), probing(self.playground, plan.variant, self._fetching(plan)) as probe:
            saved = self.out / f".{folder_name(plan.variant)}-{_identity(probe.loadable, plan)}.part.jsonl"
            content = self._evaluate(plan, probe, saved)
            refuse_alike(plan.variant, content["samples"])
            facts = self._facts(plan.variant, probe, content["config"]["thoughts"])
            path = write(self.out, plan.variant, content, facts)
            saved.unlink(missing_ok=True)
            return path

    def _evaluate(self, plan: Plan, probe: Probe, saved: Path) -> dict[str, Any]:
        from lm_eval import simple_evaluate

        from eval.lm import Saved, VariantLM

        self.tell(Progress(step="tasks"))
        lm = VariantLM(
            probe,
            probe.loadable.prompt_format,
            Saved(saved),
            _Clock(self.tell),
            self.cancelled,
            self.playground.settings.eval_piece_tokens,
        )
        with _explained(plan):
            tasks, manager = _tasks(plan, self.out / ".rows")
            content: dict[str, Any] | None = simple_evaluate(
                model=lm,
                tasks=tasks,
                num_fewshot=plan.shots,
                limit=plan.suite.limit,
                samples=_sample(plan.suite, tasks, manager),
                apply_chat_template=plan.chat_template,
                fewshot_as_multiturn=plan.chat_template,
                task_manager=manager,
            )
        assert content is not None
        content["chat_template"] = lm.chat_template(plan.chat_template)
        content["config"]["tokens_computed"] = lm.count.computed
        content["config"]["tokens_least"] = lm.count.least
        content["config"]["thoughts"] = {name: getattr(lm.count, name) for name in THOUGHTS}
        return content

    def _facts(self, variant: str, probe: Probe, thoughts: Mapping[str, int]) -> Facts:
        """Measure what stands beside the scores: speed, size, and the drift of a build from what it was built from.

        `thoughts`: what became of them while it was scored.
        """
        from eval import speed

        chosen = self.playground.catalogue.get(variant)
        rows: dict[str, Any] = {"variant": variant, "kind": chosen.kind, "dtype": probe.info.dtype or None}
        if thoughts["closed"] or thoughts["unfinished"]:
            rows |= {f"thoughts_{name}": count for name, count in thoughts.items()}
        rows["base"] = None if isinstance(chosen, Base) else chosen.base
        rows["size_bytes"] = speed.size(probe.loadable)
        if "speed" in self.measures and not isinstance(chosen, Remote):  # its server caches prompts, the net is between
            self.tell(Progress(step="speed"))
            rows |= speed.measure(probe).model_dump()
        if "drift" in self.measures and isinstance(chosen, Gguf) and chosen.base is not None:
            self.tell(Progress(step="drift"))
            rows["drift"] = self._drift(chosen, probe)
        return Facts(**rows)

    def _drift(self, build: Gguf, probe: Probe) -> drift.Drift | None:
        """Measure the drift from the parent; None where that is not on this machine: nothing is downloaded for it."""
        assert build.base is not None
        parent = self.playground.catalogue.get(build.base)
        if not _is_here(self.playground, parent):
            return None
        if build.base not in self._readings:
            with probing(self.playground, build.base) as other:
                self._readings[build.base] = drift.read(other)
        return drift.drift(self._readings[build.base], drift.read(probe))

    def _fetching(self, plan: Plan) -> Callable[[float, str], None]:
        def fetch(done: float, what: str) -> None:
            self.tell(Progress(step=f"downloading {what}", done=int(done * 100), total=100))

        return fetch


class _Clock:
    """Turns counts of requests into progress with the time left, judged from what this run has computed itself."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._begun: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, done)
        spent, made = now - self._begun[0], done - self._begun[1]
        left = spent / made * (total - done) if made > 0 else None
        self._tell(Progress(step="scoring", done=done, total=total, left_s=left))


def _tasks(plan: Plan, cache: Path) -> tuple[list[Any], Any]:
    """Return tasks and task manager for lm-eval: its own configs, with rows from `data` where that is given."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    wanted = plan.suite.tasks
    if any(task not in kobest.LAYOUTS for task in wanted):
        return list(wanted), TaskManager()
    folder = Path(lm_eval.tasks.__file__).parent / "kobest"
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    if plan.data is None:
        return list(wanted), manager
    return kobest.configs(kobest.written(cache, wanted)), manager


def _rows(plan: Plan, data: Path, cache: Path) -> None:
    """Read KoBEST's files of the tasks wanted, and leave their rows below `cache`."""
    if others := [task for task in plan.suite.tasks if task not in kobest.LAYOUTS]:
        message = f"--data holds KoBEST's files, and {', '.join(others)} is not of KoBEST."
        raise EvalError(message, "Run it without --data.")
    kobest.write(data, cache, plan.suite.tasks)


def _sample(suite: Suite, tasks: list[Any], manager: Any) -> dict[str, list[int]] | None:
    """Return lm-eval's `samples` for a suite that asks a sample of its documents."""
    if suite.sample is None:
        return None
    loaded = manager.load(tasks)["tasks"]
    return samples(suite, {name: list(task.eval_docs) for name, task in loaded.items()})


@contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Turn the errors of a data hub that is out of reach into an EvalError with a remedy."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    unreachable = (ConnectionError, DatasetNotFoundError, HfHubHTTPError, OfflineModeIsEnabled)
    try:
        yield
    except unreachable as error:
        others = [task for task in plan.suite.tasks if task not in kobest.LAYOUTS]
        raise EvalError(
            f"The rows of {', '.join(plan.suite.tasks)} cannot be fetched from the Hub ({type(error).__name__}).",
            "Ask again where the Hub can be reached: what it has once fetched is kept (HF_HOME) and needs no Hub."
            if others
            else f"Without the Hub, get KoBEST's official files from {kobest.WHERE} and pass their folder: --data DIR.",
        ) from error


def refuse_alike(variant: str, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse a run in which the choices of no document could be told apart: it would read as exact chance."""
    for task, rows in samples.items():
        scores = [[float(answer[0][0]) for answer in row["resps"]] for row in rows if _is_choice(row)]
        if not scores:
            continue
        values = [value for row in scores for value in row]
        if not all(map(math.isfinite, values)):
            cause = "Its log-probabilities are not finite: its weights or its dtype are broken."
        elif not any(values):
            cause = "Every log-probability is 0: the engine returned no scores."
        elif all(len(set(row)) == 1 for row in scores):
            cause = "All choices of every document scored the same: the engine ignored the choices."
        else:
            continue
        raise EvalError(
            f"{variant} cannot tell the choices of {task} apart, so its accuracy would mean nothing.", cause
        )


def _is_choice(row: Mapping[str, Any]) -> bool:
    answers = row.get("resps") or []
    return len(answers) > 1 and all(isinstance(answer[0], (tuple, list)) for answer in answers)


def _is_here(playground: Playground, variant: Variant) -> bool:
    """Return whether a variant and its base are on this machine."""
    base = playground.catalogue.base_of(variant)
    parts = [variant] if base is None else [variant, base]
    return all(isinstance(one, Stored) and one.is_local and one.path.exists() for one in parts)


def _identity(loadable: Loadable, plan: Plan) -> str:
    """Return a name for saved answers: the same for the same weights, dtype and adapter, whatever the tasks."""
    spec = loadable.spec
    path = Path(spec.path)
    files = model_files(path) if path.exists() else []
    if loadable.adapter and Path(loadable.adapter).is_dir():
        files += sorted(file for file in Path(loadable.adapter).iterdir() if file.is_file())
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    kind: tuple[object, ...] = (spec.engine, spec.dtype, spec.load_in_4bit, plan.chat_template)
    if spec.remote is not None:
        kind += (spec.remote.url, spec.remote.model)
    return sha256(json.dumps([kind, facts]).encode()).hexdigest()[:12]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep bars and log lines of lm-eval and datasets off the screen: progress is told through `tell`.

    Outside a repository `git` complains on a stream of its own, so the commit is read from .git without it.
    """
    from lm_eval import evaluator
    from lm_eval.loggers.utils import get_commit_from_path

    asks_git, evaluator.get_git_commit_hash = evaluator.get_git_commit_hash, lambda: get_commit_from_path(Path.cwd())
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", "evaluate")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        evaluator.get_git_commit_hash = asks_git
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
