"""Peer: Evalution's KoBEST suites on its transformers or its llama.cpp engine, with rows from our files."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from evalution.benchmarks.kobest import KOBEST_SUBSETS, KoBEST
from evalution.benchmarks.multiple_choice import BaseMultipleChoiceSuite
from evalution.config import Model
from evalution.engines import LlamaCpp, Transformers

from benchmarks.common import serve_peer
from playground.system.hardware import usable_cores

MODEL, ENGINE, ROWS = sys.argv[1:]
# its own method calls super() in a class that dataclass(slots=True) has made anew, which raises after the scoring
KoBEST.result_metadata = BaseMultipleChoiceSuite.result_metadata
if ENGINE == "transformers":
    SESSION = Transformers(dtype="bfloat16", device="cpu").build(Model(path=MODEL))
else:
    SESSION = LlamaCpp(n_threads=usable_cores(), n_threads_batch=usable_cores()).build(Model(path=MODEL))


def rows(path: str, name: str, **options: Any) -> list[dict[str, Any]]:
    """Stands in for `load_dataset`: the test rows of one task."""
    lines = (Path(ROWS) / f"kobest_{name}" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


KoBEST.dataset_loader = lambda suite: rows


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """One timed scoring of all suites."""
    start = time.perf_counter()
    options = {"batch_size": request["batch"], "max_rows": request["limit"]}
    results = [KoBEST(subset=name, **options).evaluate(SESSION) for name in KOBEST_SUBSETS]
    return {
        "documents": sum(len(result.samples) for result in results),
        "wall_s": time.perf_counter() - start,
    }


if __name__ == "__main__":
    serve_peer(handle)
