"""Makes small result folders in lm-eval's form, for tests of reading, joining and ranking."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATE = "2026-11-2{day}T10-00-00.000001"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample(index: int, right: bool, *, gold: int = 0, prompt: str = "", task: str = "kobest_copa") -> dict[str, Any]:
    """One document of a two-choice task."""
    given = gold if right else 1 - gold
    scores = [["-1.0", "True"], ["-2.0", "False"]]
    doc = {"premise": f"document {index}", "label": gold}
    return {
        "doc_id": index,
        "doc": doc,
        "target": str(gold),
        "arguments": {f"gen_args_{c}": {"arg_0": f"{task} {index}{prompt}", "arg_1": f" choice {c}"} for c in (0, 1)},
        "resps": [[pair] for pair in scores],
        "filtered_resps": scores if given == 0 else scores[::-1],
        "filter": "none",
        "metrics": ["acc", "f1"],
        "doc_hash": digest(json.dumps(doc)),
        "prompt_hash": digest(f"{task} {index}{prompt}"),
        "target_hash": digest(str(gold)),
        "acc": float(right),
        "f1": [gold, given],
    }


def make_run(  # noqa: PLR0913 - what a run may differ in
    out: Path,
    model: str,
    tasks: Mapping[str, Sequence[bool]],
    *,
    day: int = 1,
    shots: int = 0,
    total: int | None = None,
    prompt: str = "",
    folder: str | None = None,
    samples: bool = True,
    facts: dict[str, Any] | None = None,
    **content: Any,
) -> Path:
    """Write a run whose documents were answered right or wrong as given; its folder."""
    where = out / (folder or model.replace("/", "__").replace(":", "__"))
    where.mkdir(parents=True, exist_ok=True)
    date = DATE.format(day=day)
    results = {
        task: {"alias": task, "sample_len": len(right), "acc,none": sum(right) / len(right), "acc_stderr,none": "N/A"}
        for task, right in tasks.items()
    }
    told = {
        "results": results,
        "group_subtasks": {},
        "configs": {task: {"task": task} for task in tasks},
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, shots),
        "n-samples": {
            task: {"original": total or len(right), "effective": len(right)} for task, right in tasks.items()
        },
        "config": {"model": "hf", "model_args": f"pretrained={model}"},
        "model_name": model,
        "lm_eval_version": "0.4.13",
        "chat_template": None,
    } | content
    (where / f"results_{date}.json").write_text(json.dumps(told), encoding="utf-8")
    for task, right in tasks.items() if samples else ():
        rows = [sample(index, one, gold=index % 2, prompt=prompt, task=task) for index, one in enumerate(right)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (where / f"samples_{task}_{date}.jsonl").write_text(text, encoding="utf-8")
    if facts is not None:
        (where / f"madang_{date}.json").write_text(json.dumps(facts), encoding="utf-8")
    return where
