"""Results that others made with lm-eval: rows, names of models, metrics as they are, and what is odd told."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval import leaderboard, origin, results, tables
from eval.leaderboard import Leaderboard
from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError
from playground.escape import guard_rich

from .runs import digest

GSM = {"exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.1, "exact_match,flexible-extract": 0.5}


def lm_eval(out: Path, arguments: Any, rows: dict[str, dict[str, Any]], day: int = 1, **more: Any) -> Path:
    """Write what lm-eval 0.4.13 writes, as far as it is read: in a folder named after the model."""
    name = origin.short(str(more.get("model_name") or "")) or "model"
    where = out / name.replace("/", "__")
    where.mkdir(parents=True, exist_ok=True)
    config = {"model": "hf", "model_args": arguments, "batch_size": day, "limit": None, "gen_kwargs": None}
    content = {
        "results": {task: {"alias": task, "sample_len": 4} | row for task, row in rows.items()},
        "group_subtasks": {task: [] for task in rows},
        "versions": dict.fromkeys(rows, 1.0),
        "n-shot": dict.fromkeys(rows, 0),
        "n-samples": {task: {"original": 4, "effective": 4} for task in rows},
        "config": config | more.pop("config", {}),
        "lm_eval_version": "0.4.13",
    } | more
    path = where / f"results_2026-11-0{day}T10-00-00.000001.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def samples(path: Path, task: str, rights: dict[tuple[str, str], list[int]]) -> None:
    """Write the documents beside a results file: by metric and filter, who was right."""
    lines = []
    for (metric, chosen), values in rights.items():
        for index, value in enumerate(values):
            row = {"doc_id": index, "doc": {"q": index}, "target": "1", "filter": chosen, "metrics": [metric]}
            hashes = {f"{what}_hash": digest(f"{what} {index}") for what in ("doc", "prompt", "target")}
            lines.append(json.dumps(row | hashes | {metric: value}) + "\n")
    path.with_name(f"samples_{task}_{path.stem.removeprefix('results_')}.jsonl").write_text("".join(lines))


def names(board: Leaderboard) -> list[str]:
    return [row.name for row in board.rows]


ACC = {"arc_easy": {"acc,none": 0.5, "acc_stderr,none": 0.2, "acc_norm,none": 0.75, "acc_norm_stderr,none": "N/A"}}


class TestRows:
    @pytest.mark.parametrize(
        ("first", "second", "rows"),
        [
            ("pretrained=o/m", "pretrained=o/m", ["o/m"]),
            ("pretrained=o/m", "pretrained=o/m,batch_size=8,device=cuda:1,token=hf_x", ["o/m"]),
            (
                "pretrained=o/m,dtype=bfloat16",
                "pretrained=o/m,load_in_4bit=True",
                ["o/m · dtype=bfloat16", "o/m · load_in_4bit=True"],
            ),
            ({"pretrained": "o/m"}, {"pretrained": "o/m", "revision": "v2"}, ["o/m", "o/m · revision=v2"]),
            ("pretrained=o/m", "pretrained=o/m,peft=me/lora", ["o/m", "me/lora"]),
            (
                "pretrained=/a/one,dtype=auto",
                r"pretrained=C:\Users\김 민\one,dtype=auto",
                [r"one · path=/a/one", r"one · path=C:\Users\김 민\one"],
            ),
            (
                "model=gpt,base_url=http://a",
                "model=gpt,base_url=http://b",
                ["gpt · base_url=http://a", "gpt · base_url=http://b"],
            ),
        ],
    )
    def test_other_arguments_are_other_rows(self, tmp_path: Path, first: Any, second: Any, rows: list[str]) -> None:
        for day, arguments in enumerate((first, second), start=1):
            lm_eval(tmp_path / str(day), arguments, ACC, day)
        assert names(leaderboard.load(tmp_path)) == rows

    @pytest.mark.parametrize(
        ("other", "told"),
        [
            ({"config": {"limit": 2.0}}, "o/m · limit=2.0"),
            ({"config": {"gen_kwargs": {"temperature": 1}}}, "o/m · gen_kwargs={'temperature': 1}"),
            ({"config": {"model_dtype": "torch.float16"}}, "o/m · dtype=float16"),
            ({"system_instruction": "Be kind."}, "o/m · system=Be kind."),
            ({"chat_template": "x", "chat_template_sha": "abcdef0123"}, "o/m"),
        ],
    )
    def test_other_ways_to_ask_are_other_rows(self, tmp_path: Path, other: dict[str, Any], told: str) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC, 1, config={"model_dtype": "torch.bfloat16"})
        lm_eval(tmp_path, "pretrained=o/m", ACC, 2, **({"config": {"model_dtype": "torch.bfloat16"}} | other))
        board = leaderboard.load(tmp_path)
        assert len(board.rows) == 2
        assert told in names(board)

    def test_two_chat_templates_are_two_rows(self, tmp_path: Path) -> None:
        for day, sha in enumerate(("a" * 64, "b" * 64), start=1):
            lm_eval(tmp_path, "pretrained=o/m", ACC, day, chat_template="x", chat_template_sha=sha)
        assert names(leaderboard.load(tmp_path)) == ["o/m · template=aaaaaaaa…", "o/m · template=bbbbbbbb…"]

    def test_the_newest_of_the_same_arguments_stands_and_says_so(self, tmp_path: Path) -> None:
        for day in (1, 3, 2):
            lm_eval(tmp_path, "pretrained=o/m", {"arc_easy": {"acc,none": day / 4}}, day)
        (row,) = leaderboard.load(tmp_path).rows
        assert (row.cells["arc_easy"].value, row.behind) == (0.75, 2)
        assert "2 other of the same arguments" in "\n".join(tables.sentences(leaderboard.load(tmp_path)))

    def test_what_was_quantized_on_loading_is_held_against_the_same_model(self, tmp_path: Path) -> None:
        for day, (more, right) in enumerate(
            {"dtype=bfloat16": [1, 1, 0, 1], "load_in_4bit=True": [1, 0, 0, 1]}.items()
        ):
            path = lm_eval(tmp_path, f"pretrained=o/m,{more}", {"arc_easy": {"acc,none": sum(right) / 4}}, day)
            samples(path, "arc_easy", {("acc", "none"): right})
        board = leaderboard.load(tmp_path)
        row = board.rows[1]
        assert (row.kind, row.base) == ("quantized", "o/m · dtype=bfloat16")
        assert row.cells["arc_easy"].difference is not None
        assert row.cells["arc_easy"].difference.lost == 1
        assert row.cells["arc_easy"].loss is not None

    def test_an_adapter_of_others_stands_under_its_base(self, tmp_path: Path) -> None:
        for day, more in enumerate(("", ",peft=/runs/한국어 lora")):
            path = lm_eval(tmp_path / str(day), f"pretrained=o/m{more}", {"arc_easy": {"acc,none": 0.5}}, day)
            samples(path, "arc_easy", {("acc", "none"): [day, 1, 0, 1 - day]})
        row = leaderboard.load(tmp_path).rows[1]
        assert (row.name, row.kind, row.base, row.depth) == ("한국어 lora", "adapter", "o/m", 1)
        assert row.cells["arc_easy"].difference is not None
        assert (row.cells["arc_easy"].difference.lost, row.cells["arc_easy"].difference.gained) == (1, 1)


class TestNames:
    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ("pretrained=o/m,dtype=auto", "o/m"),
            (r"pretrained=C:\Users\me\My Models\llama,dtype=auto", "llama"),
            ({"pretrained": r"C:\a, b=c\모델 1"}, "모델 1"),
            (r"pretrained=\\server\share\m\,x=1", "m"),
            ("pretrained=./models/opt-6.7b", "opt-6.7b"),
            ("pretrained=/a/b,c d/m,dtype=auto", "m"),
            ("pretrained=~/m", "m"),
            ("pretrained=/a=b/m=1", "m=1"),
            ({"model": "gpt-4o", "num_concurrent": 4}, "gpt-4o"),
            (None, "folder"),
            ("", "folder"),
        ],
    )
    def test_by_arguments(self, arguments: Any, name: str) -> None:
        assert origin.of({"config": {"model_args": arguments}}, "folder").name == name

    def test_lm_evals_own_name_comes_first_and_its_cut_at_a_comma_does_not(self) -> None:
        config = {"model_args": "pretrained=/a/b,c/m"}
        assert origin.of({"config": config, "model_name": "/a/b"}, "x").name == "m"
        assert origin.of({"config": config, "model_name": r"C:\x\other"}, "x").name == "other"

    def test_arguments_of_both_forms(self) -> None:
        table = {"pretrained": "/a,b/m=1", "dtype": "auto", "trust_remote_code": True}
        assert origin.parsed("pretrained=/a,b/m=1,dtype=auto,trust_remote_code=True") == {
            key: str(value) for key, value in table.items()
        }
        assert origin.parsed(table)["trust_remote_code"] == "True"


class TestMetrics:
    def test_each_metric_and_filter_is_a_column_with_its_scale_and_direction(self, tmp_path: Path) -> None:
        rows: dict[str, dict[str, Any]] = ACC | {
            "gsm8k": GSM,
            "wikitext": {"word_perplexity,none": 11.5, "word_perplexity_stderr,none": "N/A"},
            "wmt": {"bleu,none": 31.25, "bleu_stderr,none": 0.5, "ter,none": 60.0},
            "squad": {"f1,none": 81.5},
            "own": {"taste,none": 7.0},
        }
        higher = {"own": {"taste": None}, "wmt": {"ter": False}}
        lm_eval(tmp_path, "pretrained=o/m", rows, higher_is_better=higher)
        board = leaderboard.load(tmp_path)
        assert {name: board.higher(name) for name in board.tasks} == {
            "arc_easy": True,
            "arc_easy acc_norm": True,
            "gsm8k exact_match,strict-match": True,
            "gsm8k exact_match,flexible-extract": True,
            "own taste": None,
            "squad f1": True,
            "wikitext word_perplexity": False,
            "wmt bleu": True,
            "wmt ter": False,
        }
        text = tables.markdown(board)
        for part in ("50.0 [", "75.0 [", "25.0 [", "31.25 ± 0.5", "| 11.5 |", "| 81.5 |", "ter ↓", "own taste ?", "60"):
            assert part in text
        record = tables.records(board)[0]
        assert (record["wmt bleu"], record["wmt bleu_stderr"], record["arc_easy"]) == (31.25, 0.5, 0.5)
        assert board.rows[0].mean is None

    def test_the_best_comes_first_whichever_way_is_better(self, tmp_path: Path) -> None:
        for day, (name, value) in enumerate({"a": 20.0, "b": 10.0}.items(), start=1):
            rows = {"wiki": {"perplexity,none": value, "taste,none": value}}
            lm_eval(tmp_path, f"pretrained=o/{name}", rows, day)
        board = leaderboard.load(tmp_path)
        assert [row.name for row in board.sorted("wiki perplexity").rows] == ["o/b", "o/a"]
        with pytest.raises(ConfigError, match="whether higher is better in wiki taste"):
            board.sorted("wiki taste")

    def test_numbers_without_right_and_wrong_stand_side_by_side(self, tmp_path: Path) -> None:
        for day, name in enumerate(("m", "m:a"), start=1):
            path = lm_eval(tmp_path, f"pretrained={name}", {"wiki": {"word_perplexity,none": 9.0 + day}}, day)
            samples(path, "wiki", {("word_perplexity", "none"): [3, 4, 5, 6]})
        board = leaderboard.load(tmp_path)
        (said,) = tables.sentences(board)
        assert said.endswith(
            "wiki word_perplexity holds no right and wrong, document by document: "
            "its number stands beside that of m, untested."
        )
        assert "검정하지 않습니다" in tables.sentences(board, "ko")[0]

    def test_directions_of_old_files_stand_in_the_tasks_config(self, tmp_path: Path) -> None:
        config = {"metric_list": [{"metric": "taste", "higher_is_better": False}]}
        lm_eval(tmp_path, "pretrained=o/m", {"own": {"taste,none": 7.0}}, configs={"own": config})
        assert leaderboard.load(tmp_path).higher("own taste") is False

    def test_a_direction_that_the_file_leaves_open_is_not_guessed(self, tmp_path: Path) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC, higher_is_better={"arc_easy": {"acc": None}})
        board = leaderboard.load(tmp_path)
        assert (board.higher("arc_easy"), board.higher("arc_easy acc_norm")) == (None, True)

    def test_filters_are_paired_apart(self, tmp_path: Path) -> None:
        right = {"m": ([0, 0, 0, 1], [1, 1, 0, 0]), "m:a": ([1, 0, 0, 0], [1, 1, 1, 1])}
        for day, (name, (strict, loose)) in enumerate(right.items(), start=1):
            values = {"exact_match,strict-match": sum(strict) / 4, "exact_match,flexible-extract": sum(loose) / 4}
            path = lm_eval(tmp_path, f"pretrained={name}", {"gsm8k": values}, day)
            chosen = {("exact_match", "strict-match"): strict, ("exact_match", "flexible-extract"): loose}
            samples(path, "gsm8k", chosen)
        row = leaderboard.load(tmp_path).rows[1]
        found = {name: cell.difference for name, cell in row.cells.items()}
        assert {name: (one.lost, one.gained) for name, one in found.items() if one} == {
            "gsm8k exact_match,strict-match": (1, 1),
            "gsm8k exact_match,flexible-extract": (0, 2),
        }

    def test_samples_of_another_run_are_told(self, tmp_path: Path) -> None:
        for day, name in enumerate(("m", "m:a"), start=1):
            path = lm_eval(tmp_path, f"pretrained={name}", {"arc_easy": {"acc,none": 0.5}}, day)
            samples(path, "arc_easy", {("acc", "none"): [1, 0, 1]})
        cell = leaderboard.load(tmp_path).rows[1].cells["arc_easy"]
        assert cell.difference is None
        assert "holds 3 documents of acc,none" in (cell.why_not or "")

    def test_other_versions_of_a_task_are_columns_of_their_own(self, tmp_path: Path) -> None:
        for day, (name, version) in enumerate({"m": 2.0, "m:a": 3.0}.items(), start=1):
            lm_eval(tmp_path, f"pretrained={name}", {"gsm8k": GSM}, day, versions={"gsm8k": version})
        board = leaderboard.load(tmp_path)
        assert board.tasks[0].startswith("gsm8k exact_match,strict-match (v2")
        assert len(board.tasks) == 4
        assert "not asked gsm8k exact_match,strict-match (v3.0) the same way" in tables.markdown(board)

    def test_groups_stand_beside_their_tasks_but_in_no_sum(self, tmp_path: Path) -> None:
        rows = {
            "mmlu": {"acc,none": 0.4, "acc_stderr,none": 0.1},
            "mmlu_a": {"acc,none": 0.25},
            "mmlu_b": {"acc,none": 0.5},
        }
        members = {"mmlu": ["mmlu_a", "mmlu_b"], "mmlu_a": [], "mmlu_b": []}
        lm_eval(tmp_path, "pretrained=o/m", rows, group_subtasks=members)
        (row,) = leaderboard.load(tmp_path).rows
        assert (row.n, row.partial) == (8, False)
        assert row.mean is not None
        assert row.mean.value == pytest.approx(0.375)
        assert "0.4 ± 0.1" in tables.markdown(leaderboard.load(tmp_path))

    def test_a_limit_is_told(self, tmp_path: Path) -> None:
        counts = {"arc_easy": {"original": 2376, "effective": 4}}
        more: dict[str, Any] = {"n-samples": counts}
        lm_eval(tmp_path, "pretrained=o/m", ACC, config={"limit": 4.0}, **more)
        assert "4/2,376" in tables.markdown(leaderboard.load(tmp_path))


class TestOddFiles:
    @pytest.mark.parametrize("value", ["N/A", "nan", None, True, [0.5], float("nan"), float("inf")])
    def test_what_is_no_score_is_told_and_the_rest_is_shown(self, tmp_path: Path, value: Any) -> None:
        lm_eval(tmp_path, "pretrained=o/m", {"arc_easy": {"acc,none": value, "acc_norm,none": 0.75}})
        board = leaderboard.load(tmp_path)
        assert board.tasks == ["arc_easy acc_norm"]
        (fault,) = board.faults
        assert "acc,none of arc_easy is" in fault.message

    def test_an_accuracy_of_100_is_scaled_by_nothing_and_stands_apart(self, tmp_path: Path) -> None:
        for day, value in enumerate((0.5, 45.3), start=1):
            lm_eval(tmp_path, f"pretrained=o/{day}", {"arc_easy": {"acc,none": value}}, day)
        board = leaderboard.load(tmp_path)
        assert board.tasks == ["arc_easy", "arc_easy acc (no share of 1)"]
        assert "| 45.3 |" in tables.markdown(board)

    @pytest.mark.parametrize("key", ["n-samples", "n-shot", "versions", "group_subtasks", "config", "lm_eval_version"])
    @pytest.mark.parametrize("gone", [True, False])
    def test_a_key_that_is_missing_or_null_costs_nothing(self, tmp_path: Path, key: str, gone: bool) -> None:
        path = lm_eval(tmp_path, "pretrained=o/m", ACC, model_name="o/m")
        content = json.loads(path.read_text())
        content = {name: one for name, one in content.items() if name != key} if gone else content | {key: None}
        path.write_text(json.dumps(content))
        assert names(leaderboard.load(tmp_path)) == ["o/m"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[" * 100_000, "nested too deeply"),
            ('{"results": {"a": []}, "config": {}}', "another form"),
            ('{"results": {"a": {"acc,none": 1}}, "config": {}, "n-shot": {"a": "many"}}', "another form"),
        ],
    )
    def test_a_broken_file_is_named_and_the_others_are_shown(self, tmp_path: Path, text: str, said: str) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC)
        (tmp_path / "results_2026-01-01T00-00-00.json").write_text(text)
        board = leaderboard.load(tmp_path)
        assert names(board) == ["o/m"]
        assert said in board.faults[0].message

    def test_a_huge_file_is_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC)
        (tmp_path / "results_2026-01-01T00-00-00.json").write_text("[" + "1," * 5000)
        monkeypatch.setattr(results, "LARGEST", 9_000)
        assert "has 10,001 bytes" in leaderboard.load(tmp_path).faults[0].message

    def test_files_of_other_programs_and_hidden_folders_are_left_alone(self, tmp_path: Path) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC)
        (tmp_path / "config.json").write_text("{")
        (tmp_path / ".rows").mkdir()
        (tmp_path / ".rows" / "results_2026-01-01T00-00-00.json").write_text("{")
        assert leaderboard.load(tmp_path).faults == []

    @pytest.mark.parametrize("name", ["results.json", "my-model.json", "opt_2026-11-01T10-00-00.000001.json"])
    def test_flat_files_of_any_name_lm_eval_gave_them(self, tmp_path: Path, name: str) -> None:
        path = lm_eval(tmp_path / "x", "pretrained=o/m", ACC)
        content = json.loads(path.read_text())
        for key in ("n-samples", "group_subtasks", "lm_eval_version"):
            del content[key]
        path.unlink()
        (tmp_path / name).write_text(json.dumps(content | {"config": content["config"] | {"limit": 4}}, indent=2))
        (row,) = leaderboard.load(tmp_path).rows
        assert (row.name, row.cells["arc_easy"].n, row.partial) == ("o/m", 4, True)

    def test_samples_that_were_one_list(self, tmp_path: Path) -> None:
        path = lm_eval(tmp_path, "pretrained=m", {"arc_easy": {"acc,none": 0.5}})
        samples(path, "arc_easy", {("acc", "none"): [1, 0, 1, 0]})
        (lines,) = path.parent.glob("samples_*.jsonl")
        lines.with_suffix(".json").write_text(json.dumps([json.loads(line) for line in lines.read_text().splitlines()]))
        lines.unlink()
        (result,) = results.load(tmp_path).current
        assert result.rights == [True, False, True, False]


def test_nothing_of_a_file_is_obeyed_by_the_terminal_or_a_sheet(tmp_path: Path) -> None:
    lm_eval(tmp_path, "pretrained=[red]m[/],x=1", {"=cmd()": {"[b]t[/]\x1b[2J,none": 0.5}})
    lm_eval(tmp_path, "pretrained==1+1,x=\x1b[31m", {"=cmd()": {"[b]t[/]\x1b[2J,none": 0.5}}, 2)
    guard_rich()
    board = leaderboard.load(tmp_path, Catalogue([]))
    console = Console(width=200, file=io.StringIO())
    console.print(tables.terminal(board, width=200))
    assert "[red]m[/]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
    heading = tables.csv_text(board).splitlines()[0]
    assert ",=cmd" not in heading
    assert "\n=1+1" not in tables.csv_text(board)
