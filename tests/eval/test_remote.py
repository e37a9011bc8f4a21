"""Remote variants under evaluation: KoBEST as on this machine, and what cannot be measured from here left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.lineage import of
from eval.results import Facts, read_run
from eval.runner import Plan, Run, _identity
from eval.suites import Suite
from playground.catalogue import variants
from playground.catalogue.variants import Base, Gguf, Remote
from playground.compare import Playground
from playground.errors import VariantError
from playground.measure.probe import probing
from playground.settings import Settings
from playground.workers.loadable import Loadable, remote_spec
from tests.native import native_server
from tests.planted import Handler, Planted, says, serving

COPA = Suite(name="copa", tasks=["kobest_copa"], shots=[0], limit=4)


@pytest.fixture
def planted() -> Iterator[Planted]:
    with serving() as planted:
        planted.replies = [says("a")]
        yield planted


@pytest.fixture
def playground(planted: Planted, tmp_path: Path) -> Iterator[Playground]:
    settings = Settings(data=tmp_path, threads=1)
    for row in (
        Base(name="a", source="fake:a"),
        Remote(name="far", url=planted.url, base="a"),
        Gguf(name="built", source="fake:g", base="far"),
    ):
        variants.add(settings, row)
    made = Playground(settings)
    yield made
    made.close()


def choices(path: Path) -> list[list[float]]:
    """The log-probabilities of every document's choices."""
    (result, *_) = read_run(path)
    rows = [row.model_dump() for row in result.documents.samples()]
    return [[float(answer[0][0]) for answer in row["resps"]] for row in rows]


def letters(handler: Handler, body: dict[str, Any]) -> None:
    """Echoes texts, a token a letter; letters are as likely as their place in Unicode says."""
    rows = []
    for index, text in enumerate(body["prompt"]):
        tokens = [*text, "!"]
        values = [None, *(-(ord(letter) % 97) / 10 - 0.1 for letter in tokens[1:])]
        held = {"tokens": tokens, "token_logprobs": values, "text_offset": list(range(len(tokens)))}
        rows.append({"index": index, "logprobs": held | {"top_logprobs": [None, *[{"x": -0.01}] * len(text)]}})
    handler.json({"choices": rows})


def test_kobest_runs_over_an_api_without_a_tokenizer(
    playground: Playground, planted: Planted, kobest_sample: Path, tmp_path: Path
) -> None:
    planted.by_path = {"/v1/completions": letters}
    path = Run(playground, tmp_path / "out").score(Plan("far", COPA, 0, kobest_sample))
    (result, *_) = read_run(path)
    assert result.n == 4
    assert result.facts == Facts(variant="far", kind="remote", base="a")
    sent = [prompt for body in planted.bodies("/v1/completions") for prompt in body["prompt"]]
    assert len(sent) == 8
    assert all("!" not in prompt for prompt in sent)


def test_a_server_without_prompt_logprobs_is_refused_in_words(
    playground: Playground, planted: Planted, kobest_sample: Path, tmp_path: Path
) -> None:
    planted.by_path = {"/v1/completions": lambda handler, body: handler.json({"choices": [{}] * len(body["prompt"])})}
    with pytest.raises(VariantError, match="cannot be scored"):
        Run(playground, tmp_path / "out").score(Plan("far", COPA, 0, kobest_sample))
    assert not list((tmp_path / "out").rglob("results_*"))


def test_drift_from_what_runs_elsewhere_is_not_measured(playground: Playground, tmp_path: Path) -> None:
    build = playground.catalogue.get("built")
    assert isinstance(build, Gguf)
    with probing(playground, "built") as probe:
        assert Run(playground, tmp_path)._drift(build, probe) is None


def test_a_remote_stands_under_its_base(playground: Playground) -> None:
    lineage = of(["a", "far"], {}, playground.catalogue)["far"]
    assert (lineage.kind, lineage.base, lineage.is_build) == ("remote", "a", False)


def test_answers_of_another_server_or_model_are_not_taken_up() -> None:
    def identity(**fields: Any) -> str:
        row = Remote(**{"name": "far", "url": "http://one/v1"} | fields)
        return _identity(Loadable(remote_spec(row)), Plan("far", COPA))

    assert identity() == identity(timeout_s=3)
    assert len({identity(), identity(model="m"), identity(url="http://two/v1")}) == 3


@pytest.mark.slow
@pytest.mark.models
def test_kobest_over_llama_server_is_kobest_here(demo_f16: Path, kobest_sample: Path, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, threads=1)
    with native_server(demo_f16, tmp_path) as url:
        variants.add(settings, Remote(name="there", url=url))
        variants.add(settings, Gguf(name="here", source=str(demo_f16)))
        playground = Playground(settings)
        try:
            run = Run(playground, tmp_path / "out", measures=())
            mine, its = (run.score(Plan(name, COPA, 0, kobest_sample)) for name in ("here", "there"))
        finally:
            playground.close()
    assert read_run(mine)[0].value == read_run(its)[0].value
    for own, other in zip(choices(mine), choices(its), strict=True):
        assert other == pytest.approx(own, abs=0.1)
