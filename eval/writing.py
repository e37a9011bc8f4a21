"""Write a run's files in the form of lm-eval's EvaluationTracker.

The tracker itself turns a full disk into a log line and writes in place; here each file appears whole or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from eval.origin import folder_name
from eval.results import Facts
from playground.system.atomic import explained, replacing

KEPT = ("model_source", "system_instruction", "fewshot_as_multiturn", "chat_template", "total_evaluation_time_seconds")


def write(out: Path, variant: str, content: Mapping[str, Any], facts: Facts | None = None) -> Path:
    """Write what `simple_evaluate` returned, `samples` and all, below `out`; return the path of results_<iso>.json.

    Samples come first, then our facts, then the results, so that a killed run leaves no results without their samples.
    `content` is left as it was.
    """
    folder = out / folder_name(variant)
    date = datetime.now().isoformat(timespec="microseconds").replace(":", "-")
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = content.get("samples") or {}
    for task, rows in samples.items():
        _write(folder / f"samples_{task}_{date}.jsonl", "".join(f"{_line(row)}\n" for row in rows))
    if facts is not None:
        _write(folder / f"madang_{date}.json", facts.model_dump_json(indent=2) + "\n")
    path = folder / f"results_{date}.json"
    _write(path, _dumped(_results(folder.name, variant, content, samples), indent=2))
    return path


def _write(path: Path, text: str) -> None:
    with explained(path), replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _results(
    folder: str, variant: str, content: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return the results with what lm-eval's tracker adds: task hashes, the model's name, the template and its hash."""
    from lm_eval.utils import hash_string

    hashes = {
        task: hash_string("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows))
        for task, rows in samples.items()
    }
    kept = {key: content.get(key) for key in KEPT}
    return {
        **{key: value for key, value in content.items() if key != "samples"},
        "task_hashes": hashes,
        **kept,
        "model_source": kept["model_source"] or "madang",
        "model_name": variant,
        "model_name_sanitized": folder,
        "system_instruction_sha": hash_string(text) if (text := kept["system_instruction"]) else None,
        "chat_template_sha": hash_string(text) if (text := kept["chat_template"]) else None,
    }


def _line(row: Mapping[str, Any]) -> str:
    """Return one document as the tracker writes it: arguments by name, answers as strings."""
    from lm_eval.utils import sanitize_list

    arguments = {
        f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(sent)} for i, sent in enumerate(row["arguments"])
    }
    answers = {key: sanitize_list(row[key]) for key in ("resps", "filtered_resps")}
    return _dumped({**row, **answers, "arguments": arguments, "target": str(row["target"])})


def _dumped(value: Any, indent: int | None = None) -> str:
    from lm_eval.utils import handle_non_serializable

    return json.dumps(value, indent=indent, default=handle_non_serializable, ensure_ascii=False)
