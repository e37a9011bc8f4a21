"""Peer: lm-eval's own `hf` model on KoBEST, at the batch size that the request names."""

import sys
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from benchmarks.common import serve_peer
from benchmarks.kobest import timed
from playground.system.hardware import usable_cores

torch.set_num_threads(usable_cores())
FOLDER, DTYPE, ROWS = sys.argv[1:]
MODEL = HFLM(pretrained=FOLDER, dtype=DTYPE, device="cpu", batch_size=1)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """One timed scoring."""
    MODEL.batch_size_per_gpu = request["batch"]
    documents, wall_s = timed(MODEL, Path(ROWS), request["limit"])
    return {"documents": documents, "wall_s": wall_s}


if __name__ == "__main__":
    serve_peer(handle)
