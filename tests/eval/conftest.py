"""What the evaluation's tests share: a small KoBEST of our own, the real one where it lies, and a real lm-eval run."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

RUN = """
import pickle, sys
from pathlib import Path
import lm_eval
import torch.utils.collect_env
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from eval import kobest

torch.utils.collect_env.get_pretty_env_info = lambda: "left out: it takes seconds"
data, out = Path(sys.argv[1]), Path(sys.argv[2])
tracker = EvaluationTracker(output_path=str(out / "tracker"))
content = lm_eval.simple_evaluate(
    model="dummy", model_args={"model": "somebody/dummy:x"}, tasks=kobest.configs(kobest.write(data, out / "rows")),
    num_fewshot=2, evaluation_tracker=tracker, bootstrap_iters=0, task_manager=TaskManager(include_defaults=False),
)
(out / "content.pickle").write_bytes(pickle.dumps(content))
samples = content.pop("samples")
tracker.save_results_aggregated(results=content, samples=samples)
for task, rows in samples.items():
    tracker.save_results_samples(task_name=task, samples=rows)
"""


@pytest.fixture(scope="session")
def kobest_sample() -> Path:
    """Invented rows in the authors' layout."""
    return Path(__file__).with_name("data") / "kobest"


@pytest.fixture(scope="session")
def real_kobest() -> Path:
    """The authors' own files: in MADANG_KOBEST, or beside the checkout."""
    folder = Path(os.environ.get("MADANG_KOBEST") or ROOT.parent / "shared" / "data" / "kobest")
    if not folder.is_dir():
        pytest.skip(f"the real KoBEST is not at {folder}: set MADANG_KOBEST to a copy of its v1.0 folder")
    return folder


@dataclass(frozen=True)
class LmEvalRun:
    """What lm-eval returned for its `dummy` model, and the files that its own tracker wrote of it."""

    content: dict[str, Any]
    out: Path

    @property
    def folder(self) -> Path:
        """The tracker's folder for the model."""
        (folder,) = (self.out / "tracker").iterdir()
        return folder


@pytest.fixture(scope="session")
def lm_eval_run(kobest_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> LmEvalRun:
    """lm-eval over the sample with two shots, in a process of its own without a hub."""
    out = tmp_path_factory.mktemp("lm_eval")
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(out / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(kobest_sample), str(out)],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return LmEvalRun(pickle.loads((out / "content.pickle").read_bytes()), out)
