"""The wing's tabs without Gradio: what is shown of a folder, and which command a form becomes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from eval import leaderboard
from eval.leaderboard import Leaderboard
from eval.samples import ResultsError
from eval.ui import board as boards
from eval.ui import flips, plots, run_tab, table
from eval.ui.board import Asked
from eval.words import words
from playground.settings import Settings
from playground.system import jobs
from tests.waiting import ended

from .runs import make_run
from .test_others import lm_eval, samples

FORM: dict[str, Any] = {
    "variants": ["m", "m:a"],
    "suite": "kobest",
    "tasks": ["copa"],
    "shots": ["0", "5"],
    "limit": None,
    "data": "",
    "chat_template": False,
    "speed": True,
    "drift": False,
}
COPA = "kobest_copa"
BASE = [index % 2 == 0 for index in range(200)]
BETTER = [right or index % 5 == 1 for index, right in enumerate(BASE)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def asked(settings: Settings) -> Asked:
    out = settings.data / "results"
    make_run(out, "m", {COPA: BASE}, facts={"variant": "m", "kind": "base", "size_bytes": 270_000_000})
    make_run(out, "m:a", {COPA: BETTER})
    make_run(out, "m:a:Q8_0", {COPA: BETTER}, facts={"variant": "m:a:Q8_0", "size_bytes": 140_000_000})
    make_run(out, "<b>x", {COPA: BASE[:50]}, total=200, shots=5, day=2)
    return Asked(out)


def shown(settings: Settings, wanted: Asked) -> Any:
    found = boards.show(settings, wanted)
    assert found.board is not None
    return found.board


def test_samples_that_are_copied_along_are_read_at_once(settings: Settings, asked: Asked, tmp_path: Path) -> None:
    found = next(one for one in asked.folder.rglob("samples_*.jsonl") if one.parent.name == "m__a")
    away = found.rename(tmp_path / "away")
    (asked.folder / "gone.json").symlink_to(tmp_path / "nowhere")
    assert [row.cells[COPA].difference for row in shown(settings, asked).rows if row.variant == "m:a"] == [None]
    away.rename(found)
    assert all(row.cells[COPA].difference for row in shown(settings, asked).rows if row.variant == "m:a")


def test_numbers_without_right_and_wrong_are_offered_no_flips(tmp_path: Path) -> None:
    rows = {"wiki": {"word_perplexity,none": 9.0}, "arc": {"acc,none": 0.5}}
    for day, name in enumerate(("m", "m:a"), start=1):
        path = lm_eval(tmp_path, f"pretrained={name}", rows, day)
        samples(path, "wiki", {("word_perplexity", "none"): [3, 4, 5, 6]})
        samples(path, "arc", {("acc", "none"): [1, 0, 1, 0]})
    board = leaderboard.load(tmp_path)
    assert flips.tasks(board, boards.key(board.rows[1])) == ["arc"]


def test_nothing_scored_invites_to_evaluate(settings: Settings) -> None:
    found = boards.show(settings, boards.asked(settings, {}))
    assert found.board is None
    assert 'data-tab="evaluate"' in found.instead


@pytest.mark.parametrize("mode", ["local", "space"])
def test_a_space_invites_nobody_to_a_tab_it_has_not_and_broken_files_are_told(
    mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADANG_MODE", mode)
    settings = Settings(data=tmp_path, mode=mode)
    wanted = boards.asked(settings, {})
    empty = boards.show(settings, wanted).instead
    (wanted.folder / "run").mkdir(parents=True)
    (wanted.folder / "run" / "results_2026-01-01T00-00-00.json").write_text("{half", encoding="utf-8")
    broken = boards.show(settings, wanted).instead
    assert ("data-tab" in empty) == ("madang eval" in empty) == (mode == "local")
    assert "results_2026-01-01T00-00-00.json" in broken
    assert (str(tmp_path) in broken) == (mode == "local")


def test_a_folder_that_is_not_there_is_a_card(settings: Settings, tmp_path: Path) -> None:
    found = boards.show(settings, boards.asked(settings, {"folder": str(tmp_path / "none")}))
    assert 'role="alert"' in found.instead


def test_rows_stand_under_their_base_with_verdicts(settings: Settings, asked: Asked) -> None:
    html = table.html(shown(settings, asked), asked.sort)
    places = [html.index(f"<b>{name}</b>") for name in ("m", "m:a", "m:a:Q8_0")]
    assert places == sorted(places)
    assert words("en")["board.change_better"] in html
    assert words("ko")["board.loss_shown"] in html or words("ko")["board.loss_undecided"] in html
    assert "&lt;b&gt;x" in html
    assert "<b>x" not in html.replace("<b>&lt;", "")
    assert words("en")["leaderboard.partial"].format(n=50, total=200) in html
    assert "270 MB" in html


def test_filters_and_order(settings: Settings, asked: Asked) -> None:
    def names(**changes: Any) -> list[str]:
        from dataclasses import replace

        board = boards.show(settings, replace(asked, **changes)).board
        return [row.variant for row in board.rows] if board else []

    assert names(pattern="Q8") == ["m:a:Q8_0"]
    assert names(pattern="m, *Q8_0") == ["m", "m:a", "m:a:Q8_0"]
    assert names(shots=(5,)) == ["<b>x"]
    assert "<b>x" not in names(whole=True)
    assert names(sort=("size", True))[:2] == ["m", "m:a:Q8_0"]
    assert names(sort=("size", False))[:2] == ["m:a:Q8_0", "m"]
    assert names(pattern="nobody") == []


def test_a_heading_turns_the_order_and_back() -> None:
    first = boards.turned(boards.GROUPED, "size")
    assert first == ("size", True)
    assert boards.turned(first, "size") == ("size", False)
    assert boards.turned(("size", False), "size") == boards.GROUPED


def test_files_that_change_are_read_again(settings: Settings, asked: Asked) -> None:
    before = len(shown(settings, asked).rows)
    make_run(asked.folder, "n", {COPA: BASE}, day=3)
    assert len(shown(settings, asked).rows) == before + 1


def test_sentences_speak_both_languages(settings: Settings, asked: Asked) -> None:
    html = boards.sentences(shown(settings, asked))
    assert "better, by 10.0 points" in html
    assert "더 낫습니다" in html
    assert "Holm" in html


def test_flipped_documents_show_both_answers(settings: Settings, asked: Asked) -> None:
    board = shown(settings, asked)
    keys = dict(boards.choices(board))
    assert list(keys) == ["m:a · 0-shot", "m:a:Q8_0 · 0-shot"]
    html = flips.html(board, keys["m:a · 0-shot"], COPA)
    assert html.count("<article>") == 20
    assert words("en")["flips.count"].format(gained=20, lost=0, base="m", n=200) in html
    assert "kobest_copa 1<" in html
    article = html.split("<article>")[1]
    gold = next(line for line in article.split("<li") if "gold" in line)
    assert '<span class="who">m:a</span>' in gold
    assert '<span class="who">m</span>' not in gold
    assert words("en")["flips.pick"] in flips.html(board, None, None)


def test_the_choice_begins_where_something_flipped(settings: Settings, asked: Asked) -> None:
    board = shown(settings, asked)
    keys = [value for _, value in boards.choices(board)]
    row, task = flips.first(board, keys[::-1])
    assert "<article>" in flips.html(board, row, task)
    assert flips.first(board, []) == (None, None)


def test_plots_hold_a_point_a_row_with_a_number(settings: Settings, asked: Asked) -> None:
    html = plots.html(shown(settings, asked))
    assert html.count("<circle") == 2
    assert words("en")["plot.none_speed"] in html


def test_no_name_in_a_plot_covers_a_point_or_another_name() -> None:
    found = [plots.Point(f"model:with-a-long-name:{n}", "gguf", 100.0 + n % 3, 50.0 + n / 4, 45, 58) for n in range(8)]
    drawn = plots.plot("size", found, str)
    spots = re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<', drawn)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert (len(spots), len(dots)) == (8, 8)
    boxes = []
    for x, y, anchor, name in spots:
        wide = plots.LETTER * len(name)
        left = float(x) - (wide if anchor == "end" else 0)
        boxes.append((left, left + wide, float(y) - 4))
    for index, (left, right, middle) in enumerate(boxes):
        assert not [x for x, y in dots if left < x < right and abs(y - middle) < 7]
        assert not [b for b in boxes[:index] if left < b[1] and b[0] < right and abs(b[2] - middle) < plots.LINE - 1]


def test_macro_f1_and_its_interval_stand_below_the_table(settings: Settings, asked: Asked) -> None:
    board = shown(settings, asked)
    folded = table.html(board, boards.GROUPED).partition('<details class="f1">')[2]
    score = board.rows[1].cells[COPA].f1
    assert words("ko")["leaderboard.f1"] in folded
    assert f"<small>{100 * score.interval.low:.1f}–{100 * score.interval.high:.1f}</small>" in folded


def test_downloads(settings: Settings, asked: Asked) -> None:
    board = shown(settings, asked)
    assert {row["variant"] for row in json.loads(boards.written(board, "json"))["rows"]} >= {"m", "m:a"}
    assert "m:a" in boards.written(board, "md")
    assert 'download="leaderboard.csv"' in boards.download(board, "csv")


def test_a_form_becomes_a_command(settings: Settings, tmp_path: Path) -> None:
    made = run_tab.command(settings, ["py", "app.py"], FORM | {"limit": 20.0, "data": str(tmp_path)})
    said = " ".join(made)
    assert said.startswith(f"py app.py --data {tmp_path} eval kobest --variant m --variant m:a --tasks copa")
    for part in ("--shots 0 --shots 5", "--limit 20", f"--data {tmp_path}", "--speed", "--no-drift", "{job}/progress"):
        assert part in said
    assert "--chat-template" not in said


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"variants": []}, "evaluate.no_variant"),
        ({"limit": 0}, "evaluate.number"),
        ({"shots": ["many"]}, "evaluate.number"),
        ({"shots": ["inf"]}, "evaluate.number"),
        ({"data": "/nowhere/at/all"}, "evaluate.no_folder"),
    ],
)
def test_a_wrong_form_is_a_card_and_no_job(change: dict[str, Any], key: str, settings: Settings) -> None:
    html = run_tab.start(settings, ["py"], FORM | change)
    assert words("ko")[f"{key}_hint"] in html
    assert key != "evaluate.number" or words("ko")["evaluate.limit"] in html or words("ko")["evaluate.shots"] in html
    assert jobs.listed(settings) == []


def run(settings: Settings, code: str) -> jobs.Job:
    command = [sys.executable, "-c", code]
    return jobs.start(settings, run_tab.KIND, command, {"variants": ["m"], "suite": "quick"})


def test_errors_of_a_run_become_a_card(settings: Settings) -> None:
    ended(settings, run(settings, "print('bar'); print('error: No <rows>.'); print('hint: Get some.'); exit(2)"))
    html = run_tab.html(settings)
    assert "<p>No &lt;rows&gt;.</p>" in html
    assert "Get some." in html
    assert 'data-action="again"' in html


def test_one_run_at_a_time_with_progress_and_cancel(settings: Settings) -> None:
    job = run(settings, "import time; time.sleep(60)")
    told = {"run": 1, "runs": 2, "variant": "m", "shots": 5, "step": "scoring", "done": 30, "total": 60, "left_s": 75.0}
    job.progress_file.write_text(json.dumps(told))
    html = run_tab.html(settings)
    assert jobs.busy(settings, run_tab.KIND)
    assert "width: 50.0%" in html
    assert '<ul class="each">' not in html
    job.progress_file.write_text(json.dumps(told | {"run": 2, "plans": [["m", 0], ["m<", 5], ["x", 5]]}))
    each = run_tab.html(settings).partition("</ul>")[0]
    assert re.findall(r"width: ([0-9.]+)%", each) == ["100.0", "50.0", "0.0"]
    assert "m&lt;" in each
    job.progress_file.write_text(json.dumps(told))
    assert words("en")["evaluate.left"].format(time="1 min 15 s") in html.replace("</span>", "").replace(
        '<span class="say-en" lang="en">1', "1"
    ).replace('<span class="say-ko" lang="ko">1분 15초', "")
    assert words("en")["evaluate.busy"] in run_tab.start(settings, ["py"], FORM)
    assert run_tab.act(settings, "cancel", job.id) == ""
    assert ended(settings, job).state == "cancelled"
    assert words("en")["evaluate.again"] in run_tab.html(settings)


def test_going_on_is_the_same_command(settings: Settings) -> None:
    job = ended(settings, run(settings, "pass"))
    assert run_tab.act(settings, "again", job.id) == ""
    newest = jobs.listed(settings)[0]
    assert newest.id != job.id
    assert newest.command == job.command
    assert 'role="alert"' in run_tab.act(settings, "again", "nobody")
    ended(settings, newest)


def test_many_files_that_cannot_be_read_are_folded_away() -> None:
    def shown(count: int) -> str:
        return boards.faults(Leaderboard([], [], faults=[ResultsError(f"file {one}") for one in range(count)]))

    assert "<details" not in shown(3)
    assert "<summary>" in shown(40)
    assert "file 39" in shown(40)
