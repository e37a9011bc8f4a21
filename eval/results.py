"""Read lm-eval's own result files, of 0.4.0 and newer, whoever made them: results_<iso>.json and
samples_<task>_<iso>.jsonl; and beside them madang_<iso>.json with what lm-eval has no place for. writing.py writes.

A result is one metric with its filter (`exact_match,strict-match`) of one task of one run; nothing is scaled.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval import origin as origins
from eval import samples as files
from eval.origin import Origin, Pairs
from eval.samples import Mark, ResultsError, Sample
from playground.measure.drift import Drift
from playground.system.paths import refuse_special

FILE = re.compile(r"(?P<stem>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
OTHERS = ("madang", "samples_")
KEYS = (re.compile(rb'"results"\s*:\s*\{'), re.compile(rb'"(versions|config)"\s*:\s*\{'))
"""What lm-eval's files of any name hold: before 0.4.3 they were called as --output_path said."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")
LARGEST = 64 * 2**20
SHARES = ("acc", "acc_norm", "exact_match", "acc_bytes", "acc_mutual_info")
LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score")
HIGHER = (*SHARES, "acc_all", "likelihood", "f1", "mcc", "bleu", "chrf", "chrf++")
"""The directions that lm-eval has for its own metrics, for files that do not tell them."""


class Facts(BaseModel):
    """What is known of a variant beside its scores: madang_<iso>.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    base: str | None = Field(default=None, description="the variant that it descends from directly")
    kind: str | None = Field(default=None, description="base, adapter, gguf or merged")
    dtype: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    first_token_s: float | None = None
    peak_memory_bytes: int | None = None
    thoughts_closed: int = Field(default=0, description="choices scored behind a thought that was closed, empty")
    thoughts_answers: int = Field(default=0, description="answers generated")
    thoughts_unfinished: int = Field(default=0, description="answers that never left their thought")
    drift: Drift | None = None


@dataclass(frozen=True)
class Documents:
    """The samples file of one task of one run, which all its metrics share."""

    results: Path
    task: str
    file: Path | None

    @cached_property
    def marks(self) -> list[Mark]:
        """Return hashes and scores, in lm-eval's order; ResultsError where the file is broken."""
        return files.read(self._file(), Mark)

    def samples(self) -> list[Sample]:
        """Read the documents with prompts and answers; they are large, so they are not kept."""
        return files.read(self._file(), Sample)

    def _file(self) -> Path:
        if self.file is None:
            raise ResultsError(
                f"{self.results} has no samples of {self.task}, so documents cannot be compared.",
                "Run lm-eval with --log_samples, and copy its samples_*.jsonl along.",
            )
        return self.file


@dataclass(frozen=True)
class Result:
    """One metric of one task of one run, as lm-eval wrote it (`acc,none`). `higher`: is better; None: nobody says.

    `differs`: arguments by which runs of this variant are told apart; `column`: where it stands on a board.
    """

    variant: str
    task: str
    metric: str
    value: float
    shots: int
    n: int
    total: int | None
    date: str
    file: Path
    documents: Documents
    error: float | None = None
    higher: bool | None = True
    is_group: bool = False
    limited: bool = False
    chat: bool = False
    system: str | None = None
    version: str = ""
    task_version: str = ""
    facts: Facts | None = None
    origin: Origin = field(default_factory=lambda: Origin(""))
    differs: Pairs = ()
    column: str = ""

    @property
    def partial(self) -> bool:
        """Return whether only some documents were asked: --limit, or a suite that samples."""
        return self.limited if self.total is None else self.n < self.total

    @property
    def is_share(self) -> bool:
        """Return whether the value is a share of the documents, by what its metric means and by its size."""
        return self.metric.partition(",")[0] in SHARES and 0 <= self.value <= 1

    @cached_property
    def rights(self) -> list[bool] | None:
        """Return for each document whether it was answered right; None where the score is not right or wrong.

        ResultsError where the documents are not those of the result.
        """
        if self.higher is not True or (self.documents.file is None and not self.is_share):
            return None
        found = files.rights(self.documents.marks, self.metric)
        if found is None:
            return None
        if self.n and len(found) != self.n:
            raise ResultsError(
                f"{self.documents.file} holds {len(found):,} documents of {self.metric}, but {self.file} tells of "
                f"{self.n:,}.",
                "Copy the samples of the same run, or run it again.",
            )
        return found if abs(sum(found) / len(found) - self.value) < 1e-6 else None


@dataclass(frozen=True)
class Results:
    """A folder's results: the run that stands for each variant, task and setting, the others, and what failed."""

    current: list[Result]
    older: list[Result] = field(default_factory=list)
    faults: list[ResultsError] = field(default_factory=list)

    def of(self, variant: str, task: str, shots: int | None = None) -> Result:
        """Return one result; the error for a missing one names those that there are."""
        found = [r for r in self.current if (r.variant, r.task) == (variant, task) and shots in (None, r.shots)]
        if not found:
            known = sorted({f"{r.variant} ({r.task}, {r.shots} shots)" for r in self.current})
            raise ResultsError(
                f"There is no result of {variant} on {task}.", f"There are {', '.join(known) or 'none'}."
            )
        return found[0]


def load(folder: Path) -> Results:
    """Read every lm-eval result below a folder. Of several runs a whole one goes before a partial one, then the newest.

    A broken file among good ones is a fault that the others survive; where nothing can be read, it is raised.
    """
    if not folder.is_dir():
        raise ResultsError(f"There is no folder {folder}.", "Name the folder that holds lm-eval's output.")
    found: list[Result] = []
    faults: list[ResultsError] = []
    for path in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not _is_results(path):
            continue
        try:
            found += read_run(path, faults)
        except ResultsError as error:
            faults.append(error)
    if faults and not found:
        raise faults[0]
    runs: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    for one in _told_apart(found):
        runs[one.variant, one.differs, one.task, one.metric, one.shots, one.chat, one.system].append(one)
    settings = sorted(runs.values(), key=lambda rows: (rows[0].variant, rows[0].shots, rows[0].chat))
    ranked = [sorted(rows, key=lambda r: (not r.partial, r.date), reverse=True) for rows in settings]
    return Results([rows[0] for rows in ranked], [old for rows in ranked for old in rows[1:]], faults)


def _told_apart(found: Sequence[Result]) -> Iterator[Result]:
    """Yield the results with the arguments in which runs of one variant differ: those make rows of their own."""
    names: dict[str, dict[Path, Origin]] = defaultdict(dict)
    for one in found:
        names[one.variant][one.file] = one.origin
    differ = {variant: origins.differing(list(runs.values())) for variant, runs in names.items()}
    for one in found:
        yield replace(one, differs=origins.told(one.origin, differ[one.variant]))


def _is_results(path: Path) -> bool:
    """Return whether a file is named as lm-eval names its results, or holds what they do."""
    if path.name.startswith(OTHERS):
        return False
    if FILE.fullmatch(path.name) or path.name == "results.json":
        return True
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return False
        content = path.read_bytes()
    except OSError:
        return False
    return all(key.search(content) for key in KEYS)


def read_run(path: Path, faults: list[ResultsError] | None = None) -> list[Result]:
    """Read the results of one file, one per task and metric; what in it is no number is added to the faults."""
    content = _json(path)
    tasks = content.get("results")
    if not isinstance(tasks, dict) or not any(isinstance(content.get(key), dict) for key in ("config", "versions")):
        raise ResultsError(
            f"{path} is not a result of lm-eval: it has no `results` and `config`.", "Move it out of this folder."
        )
    _refuse_old(path, tasks)
    facts = _facts(path)
    odd: list[str] = []
    try:
        found = [one for task in tasks for one in _of_task(path, content, task, facts, odd)]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, RecursionError) as error:
        raise ResultsError(
            f"{path} has another form than lm-eval {content.get('lm_eval_version', 'of this version')} should write "
            f"({type(error).__name__}: {error}).",
            "Madang reads the files of lm-eval 0.4.",
        ) from error
    if not found and not odd:
        odd = [f"no number of {', '.join(map(str, tasks)) or 'any task'} is a metric with its filter"]
    if odd and faults is not None:
        said = "; ".join(odd[:3]) + (f"; and {len(odd) - 3:,} more" if len(odd) > 3 else "")
        hint = "Its other scores are shown." if found else "Have lm-eval 0.4 score it again."
        faults.append(ResultsError(f"{path} holds what is no score: {said}.", hint))
    return found


def _refuse_old(path: Path, tasks: dict[str, Any]) -> None:
    """Refuse files of lm-eval before 0.4, which wrote `acc` for what is now `acc,none`: their rows would be empty."""
    for task, row in tasks.items():
        if isinstance(row, dict) and any(key == "acc" or key.endswith("_stderr") for key in row):
            raise ResultsError(
                f"{path} comes from lm-eval before 0.4: the scores of {task} name no filter (`acc`, not `acc,none`).",
                "Run it again with madang eval, or with lm-eval 0.4.",
            )


def _of_task(
    path: Path, content: Mapping[str, Any], task: str, facts: Facts | None, odd: list[str]
) -> Iterator[Result]:
    """Yield the metrics of a task; what is no number is added to `odd`."""
    row = content["results"][task]
    plain = _run(path, content, task, facts)
    for key, value in row.items():
        if "," not in key or "_stderr," in key:
            continue
        name, _, chosen = key.partition(",")
        if name == "bypass":
            odd.append(f"{task} has answers that nobody scored (--predict_only)")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            odd.append(f"{key} of {task} is {value!r}")
        else:
            error = row.get(f"{name}_stderr,{chosen}")
            is_number = isinstance(error, int | float) and math.isfinite(error)
            yield replace(
                plain,
                metric=key,
                value=float(value),
                error=float(error) if is_number else None,
                higher=_direction(content, task, name),
            )


def _run(path: Path, content: Mapping[str, Any], task: str, facts: Facts | None) -> Result:
    """Return what all metrics of a task have in common."""
    counts = _at(content, "n-samples", task) or {}
    match = FILE.fullmatch(path.name)
    stem = f"samples_{task}_{match['date']}" if match and not {"/", "\\"} & set(task) else ""
    beside = [path.with_name(f"{stem}.{end}") for end in ("jsonl", "json")] if stem else []
    origin = origins.of(content, path.parent.name, facts.variant if facts else None)
    if facts is None and origin.base:
        facts = Facts(variant=origin.name, base=origin.base, kind="adapter")
    is_group = bool(_at(content, "group_subtasks", task)) or task in (content.get("groups") or {})
    system = content.get("system_instruction")
    return Result(
        variant=origin.name,
        task=task,
        metric="",
        value=math.nan,
        shots=_shots(content, task),
        n=0 if is_group else int(counts.get("effective") or content["results"][task].get("sample_len") or 0),
        total=int(counts["original"]) if counts.get("original") and not is_group else None,
        date=match["date"] if match else _date(path, content),
        file=path,
        documents=Documents(path, task, next((one for one in beside if one.is_file()), None)),
        is_group=is_group,
        limited=bool(_at(content, "config", "limit")) and not is_group,
        chat=bool(content.get("chat_template_sha") or content.get("chat_template")),
        system=None if system is None else str(system),
        version=str(content.get("lm_eval_version") or ""),
        task_version=str(version) if (version := _at(content, "versions", task)) not in (None, "N/A") else "",
        facts=facts,
        origin=origin,
    )


def _shots(content: Mapping[str, Any], task: str) -> int:
    """Return the examples before each question; a group that tells none has its tasks', the fewest of them."""
    given = _at(content, "n-shot", task)
    if given is None and (inside := _at(content, "group_subtasks", task)):
        return min((_shots(content, one) for one in inside if one != task), default=0)
    return int(given or _at(content, "configs", task, "num_fewshot") or 0)


def _at(content: Mapping[str, Any], *keys: str) -> Any:
    """Return what lies at a path of keys; None where one of them is missing, or null."""
    found: Any = content
    for key in keys:
        found = (found or {}).get(key)
    return found


def _direction(content: Mapping[str, Any], task: str, name: str) -> bool | None:
    """Return whether higher is better: by the file, by the task's own config in it, or by what lm-eval has."""
    said: dict[Any, Any] = {name: name in HIGHER} if name in (*HIGHER, *LOWER) else {}
    for one in _at(content, "configs", task, "metric_list") or ():
        if isinstance(one, dict) and "higher_is_better" in one:
            said[one.get("metric")] = one["higher_is_better"]
    said |= _at(content, "higher_is_better", task) or {}
    return value if isinstance(value := said.get(name), bool) else None


def _date(path: Path, content: Mapping[str, Any]) -> str:
    seconds = float(content.get("date") or path.stat().st_mtime)
    return datetime.fromtimestamp(seconds).isoformat().replace(":", "-")


def _facts(path: Path) -> Facts | None:
    match = FILE.fullmatch(path.name)
    beside = path.with_name(f"madang_{match['date']}.json") if match else path
    if not match or not beside.is_file():
        return None
    try:
        return Facts.model_validate(_json(beside))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ResultsError(
            f"{beside} has faults: {faults}.", "Another version of Madang may have written it."
        ) from error


def _json(path: Path) -> dict[str, Any]:
    refuse_special(path, ResultsError)
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ResultsError(f"{path} has {size:,} bytes: no result of lm-eval.", "Move it out of this folder.")
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)
        if HALF.search(text):  # half of a sign can neither be written nor shown
            content = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is not UTF-8 text.", "Restore it, or run the benchmark again.") from error
    except json.JSONDecodeError as error:
        if not text.strip():
            raise ResultsError(f"{path} is empty.", "Its run was cut off: delete it and run it again.") from error
        raise ResultsError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}).", "Restore it, or run the benchmark again."
        ) from error
    except RecursionError as error:
        raise ResultsError(f"{path} is nested too deeply for a result of lm-eval.", "Move it out.") from error
    except ValueError as error:  # a number of thousands of digits
        raise ResultsError(f"{path} is no result of lm-eval: {error}.", "Move it out of this folder.") from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} is not a result of lm-eval.", "Move it out of this folder.")
    return content
