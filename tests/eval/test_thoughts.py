"""Choices behind a thought that the template opened, and answers that think first: scored for what they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from eval import leaderboard, tables
from eval.lm import Saved, VariantLM
from eval.results import read_run
from eval.runner import Plan, Run
from eval.suites import Suite
from playground.catalogue.variants import Catalogue
from playground.compare import Playground
from playground.measure.probe import probing
from playground.protocol import Choices, Scored
from playground.settings import Settings

ROWS = "".join(
    f'[[variant]]\nname = "{name}"\nkind = "base"\nsource = "fake:{end}"\ncontext = 2048\n'
    for name, end in {"opens": "opener", "switch": "thinker", "plain": "a"}.items()
)
COPA = Suite(name="copa", tasks=["kobest_copa"], shots=[0])
CLOSED = "\n</think>\n\n"


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    (tmp_path / "variants.toml").write_text(ROWS)
    made = Playground(Settings(data=tmp_path))
    yield made
    made.close()


def contexts(playground: Playground, variant: str, chat: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What stands before a choice, and how many choices were behind a thought that had to be closed."""
    with probing(playground, variant) as probe:
        asked: list[Choices] = []
        real = probe.score

        def score(questions: Any) -> Scored:
            asked.extend(questions)
            return real(questions)

        monkeypatch.setattr(probe, "score", score)
        lm = VariantLM(probe)
        text = lm.apply_chat_template([{"role": "user", "content": "q"}]) if chat else "user: q\nassistant: <think>\n"
        lm.loglikelihood([Instance("loglikelihood", {}, (text, choice), 0) for choice in ("a", "b")])
        return bytes(asked[0].context).decode(), lm.count.closed


def test_a_thought_that_was_opened_is_closed_before_choices(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = f"user: q\nassistant: <think>\n{CLOSED}"
    assert contexts(playground, "opens", True, monkeypatch) == (whole.rstrip(), 2)  # lm-eval moves the end's spaces
    assert contexts(playground, "switch", True, monkeypatch) == ("user: q\nassistant:", 0)
    assert contexts(playground, "plain", True, monkeypatch)[1] == 0
    assert contexts(playground, "opens", False, monkeypatch)[1] == 0  # a bare text is nobody's template


def test_thoughts_are_taken_off_answers_and_those_that_never_end_are_counted(
    playground: Playground, tmp_path: Path
) -> None:
    def answers(lm: VariantLM) -> list[str]:
        texts = [lm.apply_chat_template([{"role": "user", "content": q}]) for q in ("hi", "!muse")]
        until = {"until": ["\n\n\n"], "max_gen_toks": 100}
        return lm.generate_until([Instance("generate_until", {}, (text, until), 0) for text in texts])

    saved = tmp_path / "saved.jsonl"
    for _ in range(2):  # the second time from what was saved
        with probing(playground, "opens") as probe:
            lm = VariantLM(probe, saved=Saved(saved))
            said = answers(lm)
            assert said[0].startswith("opens heard: ")
            assert said[1] == ""
            assert (lm.count.answers, lm.count.unfinished) == (2, 1)


@pytest.mark.parametrize(("variant", "chat", "closed"), [("opens", True, True), ("opens", False, False)])
def test_it_is_stored_with_the_result_and_said(
    playground: Playground, kobest_sample: Path, tmp_path: Path, variant: str, chat: bool, closed: bool
) -> None:
    plan = Plan(variant, COPA, 0, kobest_sample, chat_template=chat)
    out = tmp_path / "out"
    (result, *_) = read_run(Run(playground, out, measures=()).score(plan))
    assert result.facts is not None
    assert (result.facts.thoughts_closed > 0) == closed
    board = leaderboard.load(out, Catalogue.load(playground.settings))
    assert any("behind an empty thought" in line for line in tables.sentences(board)) == closed
