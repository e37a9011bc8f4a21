"""lm-eval's own `local-completions` over our API: every log-likelihood and every accuracy as `madang eval` has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval import kobest
from eval.results import Result, read_run
from eval.runner import Plan, Run, quiet
from eval.suites import Suite
from playground.compare import Playground
from playground.server.app import create
from playground.settings import Settings
from tests.places import KOBEST
from tests.playground.server.conftest import serving

pytestmark = [pytest.mark.models, pytest.mark.slow]
pytest.importorskip("tenacity", reason="lm-eval's API models want it: pip install tenacity")

TASKS = ["kobest_boolq", "kobest_copa", "kobest_sentineg"]
DOCUMENTS = 4
"""Of each task; the other two tasks are asked in the same way, and take longer."""
CATALOGUE = """
[[variant]]
name = "smollm2"
kind = "base"
dtype = "fp32"
source = "{models}/smollm2"
"""


@pytest.fixture(scope="module")
def playground(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    data = tmp_path_factory.mktemp("data")
    (data / "models").symlink_to(demo_models)
    (data / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    made = Playground(Settings(data=data))
    yield made
    made.close()


def ours(playground: Playground, variant: str, out: Path) -> dict[str, Result]:
    suite = Suite(name="all", tasks=TASKS, shots=[0], limit=DOCUMENTS)
    path = Run(playground, out, measures=()).score(Plan(variant, suite, 0, KOBEST))
    found = read_run(path)
    return {f"{one.task} {one.metric}": one for one in found} | {one.task: one for one in found}


def over_the_api(url: str, model: str, tokenizer: Path, cache: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    with quiet():
        content: dict[str, Any] | None = simple_evaluate(
            model=LocalCompletionsAPI(
                base_url=f"{url}/v1/completions",
                model=model,
                tokenizer=str(tokenizer),
                tokenizer_backend="huggingface",
                batch_size=8,
                max_retries=1,
            ),
            tasks=kobest.configs(kobest.write(KOBEST, cache, TASKS)),
            num_fewshot=0,
            limit=DOCUMENTS,
            task_manager=TaskManager(include_defaults=False),
            bootstrap_iters=0,
        )
    assert content is not None
    return content


@pytest.mark.parametrize("variant", ["smollm2", "smollm2:demo"])
def test_local_completions_score_as_we_do(
    variant: str, playground: Playground, demo_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.utils.collect_env

    monkeypatch.setattr(torch.utils.collect_env, "get_pretty_env_info", lambda: "left out: it takes seconds")
    mine = ours(playground, variant, tmp_path)
    with serving(create(playground)) as url:
        theirs = over_the_api(url, variant, demo_models / "smollm2", tmp_path / "rows")
    for task in TASKS:
        samples = {row.doc_id: row for row in mine[task].documents.samples()}
        assert len(samples) == len(theirs["samples"][task])
        for row in theirs["samples"][task]:
            likelihoods = [float(answer[0][0]) for answer in row["resps"]]
            assert likelihoods == pytest.approx(samples[row["doc_id"]].scores, abs=1e-3)
        for name in ("acc,none", "f1,none", "acc_norm,none"):
            if f"{task} {name}" in mine:
                assert mine[f"{task} {name}"].value == theirs["results"][task][name]
