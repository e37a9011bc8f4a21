"""Read lm-eval's own result files: results_<iso>.json, samples_<task>_<iso>.jsonl, and beside them madang_<iso>.json
with what lm-eval has no place for. Joins two runs document by document. writing.py writes the files.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval import samples as files
from eval.samples import Mark, ResultsError, Sample, by_document
from playground.measure.drift import Drift

FILE = re.compile(r"(?P<stem>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
OLD = "results.json"
"""What lm-eval before 0.4.3 called its file, without samples that could be joined."""
KEEP = " +-.=,()"
SIGNS = {":": "~", "/": "@"}
ESCAPED = {"~": "%7E"} | SIGNS


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
class Result:
    """One task of one run: scores as lm-eval wrote them (`acc,none`), and where its documents lie."""

    variant: str
    task: str
    shots: int
    n: int
    total: int | None
    scores: dict[str, float]
    errors: dict[str, float]
    date: str
    file: Path
    samples_file: Path | None = None
    chat: bool = False
    system: str | None = None
    version: str = ""
    task_version: str = ""
    facts: Facts | None = None

    @property
    def partial(self) -> bool:
        """Return whether only some documents were asked: --limit, or a suite that samples."""
        return self.total is not None and self.n < self.total

    @property
    def metric(self) -> str | None:
        """Return the score that is compared, with its filter: accuracy, else exact match, else the first there is."""
        for name in ("acc", "exact_match"):
            for key in self.scores:
                if key.split(",")[0] == name:
                    return key
        return next(iter(self.scores), None)

    @cached_property
    def marks(self) -> list[Mark]:
        """Return its documents' hashes and scores, in lm-eval's order; ResultsError where the file is broken."""
        return files.read(self._samples(), Mark)

    def rights(self) -> list[bool] | None:
        """Return for each document whether it was answered right; None where the score is not right or wrong."""
        return files.rights(self.marks, self.metric) if self.metric else None

    def samples(self) -> list[Sample]:
        """Read its documents with prompts and answers; they are large, so they are not kept."""
        return files.read(self._samples(), Sample)

    def _samples(self) -> Path:
        if self.samples_file is None:
            raise ResultsError(
                f"{self.file} has no samples of {self.task}, so documents cannot be compared.",
                "Run lm-eval with --log_samples, and copy its samples_*.jsonl along.",
            )
        return self.samples_file


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


@dataclass(frozen=True)
class Joined:
    """Two runs document by document: only documents that both were asked, in the base's order."""

    base: list[Mark]
    variant: list[Mark]


@dataclass(frozen=True)
class Flip:
    """A document that one of two variants got right and the other wrong."""

    base: Sample
    variant: Sample
    gained: bool


def folder_name(variant: str) -> str:
    """Return the name of the folder for a variant's files, readable and reversible: `:` becomes `~`, `/` becomes `@`.

    lm-eval's `sanitize_model_name`, which would make both `__`, leaves these names as they are.
    """
    name = "".join(ESCAPED.get(sign) or quote(sign, safe=KEEP) if sign.isascii() else sign for sign in variant)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def variant_name(folder: str) -> str:
    """Return the variant whose files a folder holds: `folder_name` backwards."""
    for sign, instead in SIGNS.items():
        folder = folder.replace(instead, sign)
    return unquote(folder)


def load(folder: Path) -> Results:
    """Read every lm-eval result below a folder. Of several runs a whole one goes before a partial one, then the newest.

    A broken file among good ones is a fault that the others survive; where nothing can be read, it is raised.
    """
    if not folder.is_dir():
        raise ResultsError(f"There is no folder {folder}.", "Name the folder that holds lm-eval's output.")
    runs: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    faults: list[ResultsError] = []
    for path in sorted(folder.rglob("*.json")):
        if not _is_results(path):
            continue
        try:
            for result in read_run(path):
                runs[result.variant, result.task, result.shots, result.chat, result.system].append(result)
        except ResultsError as error:
            faults.append(error)
    if faults and not runs:
        raise faults[0]
    settings = sorted(runs.values(), key=lambda rows: (rows[0].variant, rows[0].shots, rows[0].chat))
    ranked = [sorted(rows, key=lambda r: (not r.partial, r.date), reverse=True) for rows in settings]
    return Results([rows[0] for rows in ranked], [old for rows in ranked for old in rows[1:]], faults)


def _is_results(path: Path) -> bool:
    match = FILE.fullmatch(path.name)
    return path.name == OLD or bool(match and match["stem"] != "madang")


def read_run(path: Path) -> list[Result]:
    """Read the results of one file, one per task; groups, which only sum up their tasks, are left out."""
    content = _json(path)
    tasks = content.get("results")
    if not isinstance(tasks, dict) or not isinstance(content.get("config"), dict):
        raise ResultsError(
            f"{path} is not a result of lm-eval: it has no `results` and `config`.", "Move it out of this folder."
        )
    groups = {name for name, members in (content.get("group_subtasks") or {}).items() if members}
    _refuse_old(path, tasks)
    facts = _facts(path)
    try:
        return [_result(path, content, task, facts) for task in tasks if task not in groups]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(
            f"{path} has another form than lm-eval {content.get('lm_eval_version', 'of this version')} should write "
            f"({type(error).__name__}: {error}).",
            "Madang reads the files of lm-eval 0.4.",
        ) from error


def _refuse_old(path: Path, tasks: dict[str, Any]) -> None:
    """Refuse files of lm-eval before 0.4, which wrote `acc` for what is now `acc,none`: their rows would be empty."""
    for task, row in tasks.items():
        if isinstance(row, dict) and any(key == "acc" or key.endswith("_stderr") for key in row):
            raise ResultsError(
                f"{path} comes from lm-eval before 0.4: the scores of {task} name no filter (`acc`, not `acc,none`).",
                "Run it again with madang eval, or with lm-eval 0.4.",
            )


def _result(path: Path, content: dict[str, Any], task: str, facts: Facts | None) -> Result:
    row = content["results"][task]
    counts = (content.get("n-samples") or {}).get(task) or {}
    config = (content.get("configs") or {}).get(task) or {}
    numbers = {key: float(value) for key, value in row.items() if "," in key and isinstance(value, int | float)}
    match = FILE.fullmatch(path.name)
    beside = path.with_name(f"samples_{task}_{match['date']}.jsonl") if match else path
    return Result(
        variant=_variant(path, content, facts),
        task=task,
        shots=int((content.get("n-shot") or {}).get(task, config.get("num_fewshot") or 0)),
        n=int(counts.get("effective", row.get("sample_len", 0)) or 0),
        total=int(counts["original"]) if counts.get("original") else None,
        scores={key: value for key, value in numbers.items() if "_stderr," not in key},
        errors={key.replace("_stderr,", ","): value for key, value in numbers.items() if "_stderr," in key},
        date=match["date"] if match else _date(content),
        file=path,
        samples_file=beside if match and beside.is_file() else None,
        chat=bool(content.get("chat_template_sha") or content.get("chat_template")),
        system=content.get("system_instruction"),
        version=str(content.get("lm_eval_version") or ""),
        task_version=str((content.get("versions") or {}).get(task, "")),
        facts=facts,
    )


def _variant(path: Path, content: dict[str, Any], facts: Facts | None) -> str:
    """Return whose results these are: by our own file, else by lm-eval's `model_name`, else by arguments or folder."""
    if facts is not None:
        return facts.variant
    if name := content.get("model_name"):
        return str(name)
    given = content["config"].get("model_args")
    given = (
        given.get("pretrained") if isinstance(given, dict) else re.search(r"(?:pretrained|model)=([^,]+)", given or "")
    )
    return str(given if isinstance(given, str) else given[1] if given else variant_name(path.parent.name))


def _date(content: dict[str, Any]) -> str:
    return datetime.fromtimestamp(float(content.get("date") or 0)).isoformat().replace(":", "-")


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
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is not UTF-8 text.", "Restore it, or run the benchmark again.") from error
    except json.JSONDecodeError as error:
        if not text.strip():
            raise ResultsError(f"{path} is empty.", "Its run was cut off: delete it and run it again.") from error
        raise ResultsError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}).", "Restore it, or run the benchmark again."
        ) from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} is not a result of lm-eval.", "Move it out of this folder.")
    return content


def join(base: Result, variant: Result) -> Joined:
    """Return the documents that both runs were asked; ResultsError with its cause where prompts or answers differ.

    Paired statistics hold only for the same question with the same right answer, which lm-eval's hashes vouch for.
    """
    chosen = (base.metric or "").partition(",")[2]
    mine, theirs = by_document(base.marks, chosen), by_document(variant.marks, chosen)
    common = [key for key in mine if key in theirs]
    if not common:
        raise ResultsError(
            f"{base.variant} and {variant.variant} have no document of {base.task} in common.",
            f"Run both with the same suite, rows and limit ({_differences(base, variant)}).",
        )
    for what, key in (("prompt", "prompt_hash"), ("right answer", "target_hash")):
        other = sum(getattr(mine[k], key) != getattr(theirs[k], key) for k in common)
        if other:
            raise ResultsError(
                f"{base.variant} and {variant.variant} cannot be compared on {base.task}: {other:,} of {len(common):,} "
                f"documents had another {what}.",
                f"Likely cause: {_differences(base, variant)}. Run both the same way.",
            )
    return Joined([mine[key] for key in common], [theirs[key] for key in common])


def flips(base: Result, variant: Result) -> list[Flip]:
    """Return the documents that one run got right and the other wrong, lost ones first."""
    join(base, variant)
    name, _, chosen = (base.metric or "").partition(",")
    mine, theirs = by_document(base.samples(), chosen), by_document(variant.samples(), chosen)
    pairs = [(mine[key], theirs[key]) for key in mine if key in theirs]
    found = [
        Flip(one, other, gained=bool(other.values.get(name)))
        for one, other in pairs
        if bool(one.values.get(name)) != bool(other.values.get(name))
    ]
    return sorted(found, key=lambda flip: flip.gained)


def _differences(base: Result, variant: Result) -> str:
    """Say in what two runs differ, the likeliest cause first."""
    found = []
    if base.shots != variant.shots:
        found.append(f"{base.shots} and {variant.shots} shots")
    if base.chat != variant.chat:
        found.append("one with a chat template, one without")
    if base.system != variant.system:
        found.append("another system instruction")
    for what, one, other in (
        ("lm-eval", base.version, variant.version),
        ("task version", base.task_version, variant.task_version),
    ):
        if one != other:
            found.append(f"{what} {one or 'unknown'} and {other or 'unknown'}")
    if not found and base.n != variant.n:
        found.append(f"{base.n:,} and {variant.n:,} documents, which draws other examples where there are shots")
    return ", ".join(found) or "another prompt text, chat template or source of rows"
