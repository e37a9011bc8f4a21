"""The leaderboard: lineage, comparisons, Holm's families, partial runs, sorting, filtering, and each form of output."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import app
from eval import leaderboard, lineage, paired, tables
from eval.columns import KOBEST
from eval.leaderboard import Leaderboard
from eval.lineage import Lineage
from eval.results import Facts
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.errors import UnknownNameError
from playground.wording import LANGUAGES, Language

from .runs import make_run

N = 200


def answers(share: float, seed: int, n: int = N) -> list[bool]:
    return [bool(one) for one in np.random.default_rng(seed).random(n) < share]


def changed(right: list[bool], gained: int = 0, lost: int = 0) -> list[bool]:
    """The same answers with some flipped each way."""
    row = list(right)
    for place in [index for index, one in enumerate(right) if not one][:gained]:
        row[place] = True
    for place in [index for index, one in enumerate(right) if one][:lost]:
        row[place] = False
    return row


BASE = {task: answers(0.5, seed) for seed, task in enumerate(KOBEST)}
BETTER = {task: changed(right, gained=30, lost=2) for task, right in BASE.items()}
QUANTIZED = {task: changed(right, gained=1, lost=1) for task, right in BETTER.items()}
FACTS = {"variant": "m:a:Q8_0", "base": "m:a", "kind": "gguf", "size_bytes": 145_000_000, "decode_tokens_per_s": 111.4}
DRIFT = dict(against="m:a", mean_kl=0.0123, p99_kl=0.2, same_top=0.97, perplexity_ratio=1.01, positions=900)


def filled(folder: Path) -> Path:
    """A base, an adapter better than it, the adapter's quantized build, and someone else's model."""
    make_run(folder, "m", BASE, facts={"variant": "m", "kind": "base", "size_bytes": 270_000_000})
    make_run(folder, "m:a", BETTER)
    make_run(folder, "m:a:Q8_0", QUANTIZED, facts=FACTS | {"drift": DRIFT})
    make_run(folder, "other/model", {"kobest_copa": answers(0.6, 9)})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own for a test that adds to it."""
    return filled(tmp_path)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """Frozen, so one for all: its statistics take a third of a second."""
    return leaderboard.load(filled(tmp_path_factory.mktemp("board")))


def test_variants_stand_under_their_base(board: Leaderboard) -> None:
    assert [(row.variant, row.kind, row.base, row.parent) for row in board.rows] == [
        ("m", "base", None, None),
        ("m:a", "adapter", "m", "m"),
        ("m:a:Q8_0", "gguf", "m", "m:a"),
        ("other/model", "base", None, None),
    ]
    assert board.tasks == list(KOBEST)


def test_an_adapter_is_asked_whether_it_is_better(board: Leaderboard) -> None:
    row = board.rows[1]
    assert row.mean is not None
    assert row.mean.difference is not None
    assert row.mean.difference.value == pytest.approx(28 / N)
    assert row.mean.difference.verdict == "better"
    assert row.mean.loss is None
    assert row.cells["kobest_wic"].difference is not None
    assert row.cells["kobest_wic"].f1 is not None


def test_a_build_is_asked_what_it_lost_to_what_it_was_built_from(board: Leaderboard) -> None:
    cell = board.rows[2].cells["kobest_wic"]
    assert cell.loss is not None
    assert cell.loss.value == 0
    assert cell.difference is not None
    assert cell.difference.value == pytest.approx(28 / N)


def test_the_base_is_compared_with_nothing(board: Leaderboard) -> None:
    assert all(cell.difference is None and cell.loss is None for cell in board.rows[0].cells.values())


def test_a_mean_needs_all_tasks_of_the_board(board: Leaderboard) -> None:
    assert board.rows[3].mean is None
    assert board.rows[0].mean is not None
    assert board.rows[0].mean.value == pytest.approx(np.mean([np.mean(right) for right in BASE.values()]))


def test_holm_takes_all_comparisons_of_a_setting_as_one_family(board: Leaderboard) -> None:
    differences = [cell.difference for row in board.rows for cell in row.cells.values() if cell.difference]
    assert len(differences) == 12  # two variants, five tasks and the mean
    assert {one.family for one in differences} == {12}
    assert [one.p_adjusted for one in differences] == paired.holm([one.p for one in differences])
    losses = [cell.loss for row in board.rows for cell in row.cells.values() if cell.loss]
    assert {one.family for one in losses} == {6}
    assert "Holm-corrected for 12 comparisons" in "\n".join(tables.sentences(board))


def test_filtering_changes_no_verdict(board: Leaderboard) -> None:
    few = board.only(variants=["m:a"], tasks=["kobest_wic"])
    assert few.rows == [board.rows[1]]
    assert few.tasks == ["kobest_wic"]


def test_settings_are_compared_with_their_like_alone(tmp_path: Path) -> None:
    copa = {"kobest_copa": BASE["kobest_copa"]}
    make_run(tmp_path, "m", copa)
    make_run(tmp_path, "m:a", copa, shots=5, prompt=" five")
    make_run(tmp_path, "m", copa, day=2, chat_template="x", prompt=" chat")
    make_run(tmp_path, "m:a", copa, day=2, chat_template="x", prompt=" chat")
    rows = {(row.variant, row.shots, row.chat): row.cells["kobest_copa"] for row in leaderboard.load(tmp_path).rows}
    assert rows["m:a", 5, False].difference is None
    assert rows["m:a", 5, False].why_not == "m was not asked kobest_copa the same way."
    assert rows["m:a", 0, True].difference is not None


def test_each_setting_is_a_family_of_its_own(tmp_path: Path) -> None:
    for shots in (0, 5):
        for name, answered in (("m", BASE), ("m:a", BETTER)):
            make_run(tmp_path, name, {"kobest_copa": answered["kobest_copa"]}, shots=shots, day=1 + shots)
    families = [row.cells["kobest_copa"].difference for row in leaderboard.load(tmp_path).rows if row.base]
    assert [one.family for one in families if one] == [1, 1]


def test_half_a_mean_is_no_mean(tmp_path: Path) -> None:
    make_run(tmp_path, "m", {task: BASE[task] for task in KOBEST[:4]})
    make_run(tmp_path, "m:a", BETTER)
    base, adapter = leaderboard.load(tmp_path).rows
    assert base.mean is None
    assert adapter.mean is not None
    assert adapter.mean.difference is None
    assert (adapter.mean.unasked, adapter.mean.why_not) == (KOBEST[4], f"m was not asked {KOBEST[4]} the same way.")
    assert adapter.cells["kobest_copa"].difference is not None
    said = [line for line in tables.sentences(leaderboard.load(tmp_path), "ko") if "같은 조건" in line]
    assert said == [f"m:a, 평균, 예시 0개: m에 같은 조건의 {KOBEST[4]} 결과가 없습니다."]


def test_one_task_sorts_by_its_difference_since_there_is_no_mean(tmp_path: Path) -> None:
    copa = BASE["kobest_copa"]
    for name, right in (("m", copa), ("m:a", changed(copa, lost=9)), ("m:b", changed(copa, gained=9))):
        make_run(tmp_path, name, {"kobest_copa": right})
    ranked = leaderboard.load(tmp_path).sorted("difference")
    assert [row.variant for row in ranked.rows] == ["m:b", "m:a", "m"]


def test_an_adapter_takes_its_bases_files_too(tmp_path: Path) -> None:
    copa = {"kobest_copa": BASE["kobest_copa"]}
    make_run(tmp_path, "m", copa, facts={"variant": "m", "kind": "base", "size_bytes": 270_000_000})
    make_run(tmp_path, "m:a", copa, facts={"variant": "m:a", "kind": "adapter", "base": "m", "size_bytes": 5_000_000})
    make_run(tmp_path, "n:a", copa, facts={"variant": "n:a", "kind": "adapter", "base": "n", "size_bytes": 5_000_000})
    board = leaderboard.load(tmp_path)
    assert [row.disk for row in board.rows] == [270_000_000, 275_000_000, None]
    assert "+5 MB" in shown(board)


def test_other_prompts_leave_their_reason_and_the_rest_of_the_board(folder: Path) -> None:
    make_run(folder, "m:b", BETTER, prompt="!")
    row = next(row for row in leaderboard.load(folder).rows if row.variant == "m:b")
    assert row.cells["kobest_wic"].difference is None
    assert "had another prompt" in (row.cells["kobest_wic"].why_not or "")
    assert row.mean is not None
    assert row.mean.difference is None


def test_without_samples_there_is_a_score_with_an_interval(tmp_path: Path) -> None:
    make_run(tmp_path, "m", BASE)
    make_run(tmp_path, "m:a", BETTER, samples=False)
    row = leaderboard.load(tmp_path).rows[1]
    cell = row.cells["kobest_copa"]
    assert cell.score == paired.accuracy(BETTER["kobest_copa"])
    assert (cell.difference, cell.f1) == (None, None)
    assert "no samples" in (cell.why_not or "")
    assert row.mean is not None
    assert row.mean.difference is None


def test_partial_runs_are_marked_with_their_n(tmp_path: Path) -> None:
    make_run(tmp_path, "m", {task: right[:50] for task, right in BASE.items()}, total=N)
    make_run(tmp_path, "m:a", BETTER)
    board = leaderboard.load(tmp_path)
    assert [row.partial for row in board.rows] == [True, False]
    assert board.rows[1].cells["kobest_wic"].difference is not None
    assert board.rows[1].cells["kobest_wic"].difference.n == 50
    text = shown(board)
    assert "m *" in text
    assert "250/1,000" in text
    assert "partial run" in text
    assert [row.variant for row in board.only(whole=True).rows] == ["m:a"]
    assert tables.records(board)[0]["kobest_wic_total"] == N
    assert "m * |" in tables.markdown(board)


def test_other_tasks_stand_beside_kobest_but_not_in_its_mean(tmp_path: Path) -> None:
    make_run(tmp_path, "m", BASE | {"haerae": [True] * 10})
    board = leaderboard.load(tmp_path)
    assert board.tasks == [*KOBEST, "haerae"]
    assert board.rows[0].mean is not None
    assert board.rows[0].mean.n == 5 * N
    make_run(tmp_path / "b", "x", {"haerae": [True] * 10, "kmmlu": [False] * 10})
    (row,) = leaderboard.load(tmp_path / "b").rows
    assert row.mean is not None
    assert row.mean.value == pytest.approx(0.5)


def test_scores_that_are_no_shares_are_shown_alone(tmp_path: Path) -> None:
    where = make_run(tmp_path, "m", {"wmt": [True] * 4}, samples=False)
    (path,) = where.glob("results_*")
    content = json.loads(path.read_text())
    content["results"]["wmt"] = {"alias": "wmt", "bleu,none": 31.25, "bleu_stderr,none": 0.4}
    path.write_text(json.dumps(content))
    board = leaderboard.load(tmp_path)
    cell = board.rows[0].cells["wmt bleu"]
    assert (cell.value, cell.error, cell.score) == (31.25, 0.4, None)
    assert "31.25 ± 0.4" in shown(board)


def test_faults_do_not_hide_what_can_be_read(folder: Path) -> None:
    (folder / "m" / "results_2026-01-01T00-00-00.json").write_text("")
    board = leaderboard.load(folder)
    assert len(board.rows) == 4
    assert len(board.faults) == 1
    assert "is empty" in json.loads(tables.json_text(board))["faults"][0]


def test_a_margin_one_can_set(folder: Path) -> None:
    strict, generous = (leaderboard.load(folder, margin=margin).rows[2] for margin in (0.001, 0.2))
    assert strict.mean is not None
    assert strict.mean.loss is not None
    assert strict.mean.loss.verdict == "undecided"
    assert generous.mean is not None
    assert generous.mean.loss is not None
    assert generous.mean.loss.verdict == "shown"


class TestLineage:
    def test_by_the_catalogue(self) -> None:
        known = Catalogue(
            [
                Base(name="root", source="o/r"),
                Adapter(name="fine", base="root", source="o/a"),
                Gguf(name="small", base="fine", source="o/g"),
            ]
        )
        found = lineage.of(["small", "fine", "root", "stranger"], {}, known)
        assert found["small"] == Lineage("gguf", "fine", "root", ("root", "fine", "small"))
        assert found["stranger"] == Lineage("base", None, None, ("stranger",))

    @pytest.mark.parametrize(
        ("name", "kind", "parent", "base"),
        [
            ("m", "base", None, None),
            ("owner/m-7B", "base", None, None),
            ("m:a", "adapter", "m", "m"),
            ("m:a:Q4_K_M", "gguf", "m:a", "m"),
            ("m:Q8_0", "gguf", "m", "m"),
            ("m:f16", "gguf", "m", "m"),
            ("m:IQ3_XXS", "gguf", "m", "m"),
            ("m:a:merged", "merged", "m:a", "m"),
            ("m:f16-tuned", "adapter", "m", "m"),
            ("m:quality", "adapter", "m", "m"),
        ],
    )
    def test_by_name(self, name: str, kind: str, parent: str | None, base: str | None) -> None:
        found = lineage.of([name, name.partition(":")[0]], {})[name]
        assert (found.kind, found.parent, found.base) == (kind, parent, base)

    def test_a_tag_of_another_program_is_no_adapter(self) -> None:
        assert lineage.of(["llama3:8b", "llama3:70b"], {})["llama3:8b"] == Lineage("base", path=("llama3:8b",))

    def test_a_runs_own_facts_come_first(self) -> None:
        facts = {"build": Facts(variant="build", base="m:a", kind="merged")}
        assert lineage.of(["build"], facts)["build"] == Lineage("merged", "m:a", "m", ("m", "m:a", "build"))

    def test_a_circle_ends(self) -> None:
        facts = {"a": Facts(variant="a", base="b"), "b": Facts(variant="b", base="a")}
        assert lineage.of(["a", "b"], facts)["a"].path == ("b", "a")


class TestSorting:
    @pytest.mark.parametrize(
        ("by", "first"),
        [("mean", "m:a"), ("kobest_copa", "m:a"), ("size", "m"), ("speed", "m:a:Q8_0"), ("variant", "other/model")],
    )
    def test_by_column(self, board: Leaderboard, by: str, first: str) -> None:
        assert board.sorted(by).rows[0].variant == first

    def test_gaps_come_last_either_way(self, board: Leaderboard) -> None:
        for descending in (True, False):
            ranked = board.sorted("size", descending).rows
            assert {row.variant for row in ranked[:2]} == {"m", "m:a:Q8_0"}
        assert [row.variant for row in board.sorted("difference").rows][-2:] == ["m", "other/model"]

    def test_unknown_columns_and_tasks_have_near_matches(self, board: Leaderboard) -> None:
        with pytest.raises(UnknownNameError) as error:
            board.sorted("sizes")
        assert error.value.near == ["size"]
        with pytest.raises(UnknownNameError) as error:
            board.only(tasks=["kobest_cop"])
        assert "kobest_copa" in error.value.near


def test_filters(board: Leaderboard) -> None:
    assert [row.variant for row in board.only(variants=["m:*"]).rows] == ["m:a", "m:a:Q8_0"]
    assert [row.variant for row in board.only(kinds=["base"]).rows] == ["m", "other/model"]
    assert board.only(shots=5).rows == []


def shown(board: Leaderboard, language: Language = "en") -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(tables.terminal(board, language))
    return console.export_text()


class TestOutput:
    def test_terminal(self, board: Leaderboard) -> None:
        text = shown(board)
        line = next(line for line in text.splitlines() if "m:a:Q8_0" in line)
        for part in ("    m:a:Q8_0", "gguf", "+14.0 [", "better", "145 MB", "111", "0.0123", "1,000"):
            assert part in line
        assert "베이스 모델과의 차이" in shown(board, "ko")

    @pytest.mark.parametrize("language", ["en", "ko"])
    def test_a_narrow_terminal_leaves_facts_out_and_squeezes_nothing(
        self, board: Leaderboard, language: Language
    ) -> None:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(tables.terminal(board.only(tasks=["kobest_copa", "kobest_wic"]), language, width=80))
        text = console.export_text()
        assert "m:a:Q8_0" in text
        assert "…" not in text

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
    def test_no_width_squeezes_five_tasks(self, board: Leaderboard, width: int) -> None:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(tables.terminal(board, width=width))
        table = console.export_text().partition("Accuracies")[0]
        assert "…" not in table
        assert len([line for line in table.splitlines() if line.strip()]) == 2 + len(board.rows)

    def test_macro_f1_has_its_bootstrap_interval_in_every_form(self, board: Leaderboard) -> None:
        cell = board.rows[1].cells["kobest_wic"]
        assert cell.f1 is not None
        low, high = cell.f1.interval.low, cell.f1.interval.high
        written = f"wic {100 * cell.f1.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        (line,) = [one for one in tables.sentences(board) if one.startswith("m:a, 0 shots: macro-F1 boolq ")]
        assert line.endswith(written)
        assert written in tables.markdown(board)
        assert "by bootstrap" in tables.caption(board)
        row = tables.records(board)[1]
        assert (row["kobest_wic_f1_low"], row["kobest_wic_f1_high"]) == (low, high)

    def test_csv(self, board: Leaderboard) -> None:
        rows = list(csv.DictReader(io.StringIO(tables.csv_text(board))))
        assert [row["variant"] for row in rows] == [row.variant for row in board.rows]
        adapter = rows[1]
        assert float(adapter["mean_difference"]) == pytest.approx(28 / N)
        assert adapter["mean_verdict"] == "better"
        assert (adapter["mean_loss_verdict"], adapter["size_bytes"]) == ("", "")
        assert rows[2]["drift_mean_kl"] == "0.0123"
        assert tables.csv_text(board.only(shots=9)) == "variant\n"

    def test_markdown(self, board: Leaderboard) -> None:
        text = tables.markdown(board)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 6
        assert len({line.count("|") for line in lines}) == 1
        assert "- m:a, mean, 0 shots: against m: better, by 14.0 points on 1,000 documents" in text

    def test_json(self, board: Leaderboard) -> None:
        content = json.loads(tables.json_text(board), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        build = content["rows"][2]
        assert build["facts"]["drift"]["against"] == "m:a"
        assert build["cells"]["mean"]["loss"]["verdict"] in ("shown", "undecided")
        assert len(build["cells"]["mean"]["sentences"]) == 2
        assert content["rows"][3]["cells"]["kobest_copa"]["n"] == N

    def test_an_empty_board(self, tmp_path: Path) -> None:
        board = leaderboard.load(tmp_path)
        assert tables.records(board) == []
        assert json.loads(tables.json_text(board))["rows"] == []
        shown(board)


def test_the_terminal_says_two_lines_and_with_wide_everything(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words: dict[str, list[str]] = {}
    for name, more in {"brief": [], "wide": ["--wide"]}.items():
        with pytest.raises(SystemExit, match="0"):
            app.main(["--data", str(folder / "own"), "leaderboard", str(folder), *more])
        words[name] = capsys.readouterr().out.splitlines()
    brief, wide = words["brief"], words["wide"]
    assert all(len(line) <= 80 for line in brief)
    rows = [number for number, line in enumerate(brief) if line.strip().startswith("other/model")]
    said = [line for line in brief[max(rows) + 1 :] if line.strip()]
    assert len(said) == 2
    assert re.fullmatch(r"\d+ comparisons: \d+ better or within margin, \d+ worse, \d+ undecided\.", said[0])
    assert said[1].endswith("madang leaderboard --wide")
    board = leaderboard.load(folder)
    assert sum(line.startswith("•") for line in wide) > 12
    header = next(line for line in wide if line.strip().startswith("Variant"))
    assert all(board.short(task) in header for task in board.tasks)
    for language in LANGUAGES:
        assert all(len(line) <= 80 for line in tables.in_brief(board, 80, language))
