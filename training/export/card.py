"""The model card of an export: what it is, what made it, how it was judged, how it is used. Reads and uploads nothing.

Nothing in it may say where files lay on the machine that made them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from playground.catalogue.variants import HUB_ID
from playground.escape import in_markdown, without_paths
from playground.measure.drift import Drift
from training.export.parity import Verdict
from training.export.plan import Kind

LIBRARY = {"adapter": "peft", "merged": "transformers", "gguf": "gguf", "gptq": "transformers"}
LICENCES = {"Apache License": "apache-2.0", "MIT License": "mit", "BSD 3-Clause": "bsd-3-clause"}
PEFT = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{words}")"""
TRANSFORMERS = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{repo}")"""


class Score(NamedTuple):
    """One number of one benchmark; `n` documents, `shots` examples before each.

    `of`: the variant that it was measured on; on a card the label of the build, where there are many.

    `inherited`: measured on the adapter that this was made from. Said, but not claimed in `model-index`.
    """

    task: str
    metric: str
    value: float
    n: int
    shots: int = 0
    of: str = ""
    inherited: bool = False


@dataclass(frozen=True)
class Data:
    """What it was trained on: a name, how many rows, in which format."""

    name: str
    rows: int
    format: str


@dataclass(frozen=True)
class Info:
    """What a card says. `base`: a Hub id, or a name; `verdicts`: parity by label as parity.json has them."""

    name: str
    base: str
    kind: Kind
    repo: str = ""
    method: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Data | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Sequence[Score] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    files: Sequence[str] = ()
    licence: str | None = None


def card(info: Info) -> str:
    """Return README.md: YAML for the Hub, then the same for people."""
    parts = [
        _front(info),
        f"# {in_markdown(info.name)}",
        _opening(info),
        _made(info),
        _scores(info.scores),
        _parity(info.verdicts),
        _usage(info),
        _versions(info.versions),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def licence_of(folder: Path) -> str | None:
    """Return the Hub's name for the licence of a base, from its LICENSE; `other` where the text is none we know."""
    files = sorted(folder.glob("LICENSE*"))
    if not files:
        return None
    head = files[0].read_text(encoding="utf-8", errors="replace")[:400]
    return next((name for words, name in LICENCES.items() if words in head), "other")


def _front(info: Info) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    base = info.base if HUB_ID.fullmatch(info.base) else None
    results = [
        EvalResult(
            "text-generation",
            score.task,
            score.task,
            score.metric,
            score.value,
            metric_name=f"{score.metric} ({score.of})" if score.of else None,
            dataset_args=_shots(score),
        )
        for score in info.scores
        if not score.inherited
    ]
    row = ModelCardData(
        base_model=base,
        license=info.licence,
        library_name=LIBRARY[info.kind],
        pipeline_tag="text-generation",
        tags=["madang", *([info.method] if info.method else []), *(["lora"] if info.kind == "adapter" else [])],
        model_name=info.name if results else None,
        eval_results=results or None,
        base_model_relation={"adapter": "adapter", "merged": "finetune"}.get(info.kind, "quantized") if base else None,
    )
    return f"---\n{row.to_yaml().strip()}\n---"


def _shots(score: Score) -> dict[str, Any]:
    return {"num_few_shot": score.shots, "documents": score.n}


def _opening(info: Info) -> str:
    what = {
        "adapter": "A LoRA adapter of",
        "merged": "Merged 16-bit weights, fine-tuned from",
        "gguf": "GGUF builds for llama.cpp, fine-tuned from",
        "gptq": "4-bit GPTQ weights (format compressed-tensors), fine-tuned from",
    }[info.kind]
    how = f" Trained with {info.method.upper()}." if info.method else ""
    return f"{what} {in_markdown(without_paths(info.base))}.{how}"


def _made(info: Info) -> str:
    parts = []
    if info.data:
        name = in_markdown(without_paths(info.data.name))
        parts.append(f"## Data\n\n{name}: {info.data.rows:,} rows, format {info.data.format}.")
    if info.recipe:
        text = yaml.safe_dump(without_paths(info.recipe), allow_unicode=True, sort_keys=False).strip()
        fence = "```" if "```" not in text else "~~~~"
        parts.append(f"## Recipe\n\n{fence}yaml\n{text}\n{fence}")
    return "\n\n".join(parts)


def _scores(scores: Sequence[Score]) -> str:
    names = ["task", "metric", "value", "documents", "shots"]
    rows = [[s.task, s.metric, f"{s.value:.4f}", str(s.n), str(s.shots)] for s in scores]
    if any(score.of for score in scores):
        names, rows = ["build", *names], [[score.of, *row] for score, row in zip(scores, rows, strict=True)]
    text = "## Scores\n\n"
    if any(score.inherited for score in scores):
        text += "Measured on the adapter that this was made from.\n\n"
    return text + _table(names, rows) if rows else ""


def _parity(verdicts: Mapping[str, Verdict]) -> str:
    if not verdicts:
        return ""
    rows = [(label, one.verdict, ", ".join(one.causes) or "-") for label, one in verdicts.items()]
    text = "## Parity\n\nEach build held against what it was made from.\n\n"
    text += _table(("build", "verdict", "likely cause"), rows)
    drifts = [_drift(label, one.drift) for label, one in verdicts.items() if one.drift]
    if drifts:
        names = ("build", "against", "mean KL", "99th percentile", "same top token", "perplexity ratio")
        text += f"\n\n### Drift\n\n{_table(names, drifts)}"
    if any("swallowed" in one.causes for one in verdicts.values()):
        text += f"\n\n### What arrived of the adapter\n\n{_arrived(verdicts)}"
    return text


def _arrived(verdicts: Mapping[str, Verdict]) -> str:
    """Say what share of the adapter's change each build holds, where one of them rounded some of it away."""
    rows = [(label, row) for label, one in verdicts.items() if (row := one.arrived)]
    said = "The share of the adapter's change that is found in each build. What is missing, rounding swallowed; "
    said += "Q8_0, F16 or the original that the base was quantized from keep more.\n\n"
    cells = [(label, f"{row.all:.0%}", ", ".join(f"{k} {v:.0%}" for k, v in row.types.items())) for label, row in rows]
    return said + _table(("build", "share", "by type"), cells)


def _drift(label: str, row: Drift) -> tuple[str, ...]:
    numbers = (f"{row.mean_kl:.4f}", f"{row.p99_kl:.4f}", f"{row.same_top:.1%}", f"{row.perplexity_ratio:.3f}")
    return label, without_paths(row.against), *numbers


def _usage(info: Info) -> str:
    repo = info.repo or info.name
    if info.kind == "gguf":
        return _usage_gguf(info)
    words = repo if info.kind != "adapter" or "tokenizer_config.json" in info.files else without_paths(info.base)
    code = (PEFT if info.kind == "adapter" else TRANSFORMERS).format(repo=repo, words=words)
    needs = "\n\nNeeds `pip install compressed-tensors`." if info.kind == "gptq" else ""
    return f"## Use\n\n```python\n{code}\n```{needs}"


def _usage_gguf(info: Info) -> str:
    """Say how GGUFs are used: from the Hub by repository and level, else from the files beside the card."""
    first = next((name for name in info.files if name.endswith(".gguf")), "")
    level = first.removesuffix(".gguf").rpartition("-")[2] or "Q4_K_M"
    llama, ollama = f"-hf {info.repo}:{level}", f"run hf.co/{info.repo}:{level}"
    if not info.repo:
        llama, ollama = f"-m {first or 'FILE.gguf'}", f"create {info.name.lower()} -f Modelfile"
    return f"## Use\n\nllama.cpp:\n\n```sh\nllama-cli {llama}\n```\n\nOllama:\n\n```sh\nollama {ollama}\n```"


def _versions(versions: Mapping[str, str]) -> str:
    return f"## Versions\n\n{_table(('package', 'version'), sorted(versions.items()))}" if versions else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *(map(in_markdown, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
