"""Results that others made with lm-eval: rows, names of models, metrics as they are, and what is odd told."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval import leaderboard, origin, results, tables
from eval.cli import _task
from eval.leaderboard import Leaderboard
from eval.samples import Sample
from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError, MadangError
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
            ("pretrained=o/m", "pretrained=o/m,add_bos_token=True", ["o/m", "o/m · add_bos_token=True"]),
            ("pretrained=o/m", "pretrained=o/m,think_end_token=</t>", ["o/m", "o/m · think_end_token=</t>"]),
            ({"model": "gpt", "header": {"Authorization": "x"}}, "model=gpt,hf_token=y,auth_token=z", ["gpt"]),
            ("model=gpt,base_url=http://me:secret@a/v1", "model=gpt,base_url=http://a/v1", ["gpt"]),
            ("pretrained=o/m,load_in_4bit=true", {"pretrained": "o/m", "load_in_4bit": True}, ["o/m"]),
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
            ({"config": {"model": "vllm"}}, "o/m · backend=vllm"),
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

    def test_turns_before_the_question_are_another_way_to_ask(self, tmp_path: Path) -> None:
        for day, turns in enumerate((False, True), start=1):
            lm_eval(tmp_path, "pretrained=o/m", ACC, day, chat_template="x", fewshot_as_multiturn=turns)
        assert names(leaderboard.load(tmp_path)) == ["o/m · multiturn=False", "o/m · multiturn=True"]

    def test_long_arguments_that_differ_at_their_end_are_told_apart(self, tmp_path: Path) -> None:
        for day in (1, 2):
            lm_eval(tmp_path, "pretrained=o/m", ACC, day, system_instruction="Be kind. " * 50 + str(day))
        first, second = names(leaderboard.load(tmp_path))
        assert first != second
        assert max(map(len, (first, second))) < 130

    def test_a_truth_value_in_any_case_quantizes_or_not(self, tmp_path: Path) -> None:
        for day, more in enumerate(("", ",load_in_4bit=false"), start=1):
            lm_eval(tmp_path, f"pretrained=o/m{more}", ACC, day)
        assert [row.kind for row in leaderboard.load(tmp_path).rows] == ["base", "base"]

    def test_a_name_that_looks_like_a_pattern_is_chosen_by_itself(self, tmp_path: Path) -> None:
        lm_eval(tmp_path, "pretrained=o/m[1]", ACC)
        assert names(leaderboard.load(tmp_path).only(variants=["o/m[1]"])) == ["o/m[1]"]

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

    @pytest.mark.parametrize("shots", [{"a": 5, "b": 5}, {"a": 5, "b": 5, "sub": 5}])
    def test_a_group_without_shots_has_those_of_its_tasks(self, tmp_path: Path, shots: dict[str, int]) -> None:
        scores: dict[str, dict[str, Any]] = {name: {"acc,none": 0.5} for name in ("all", "sub", "a", "b")}
        members = {"all": ["sub"], "sub": ["a", "b"]}
        more: dict[str, Any] = {"n-shot": shots}
        lm_eval(tmp_path, "pretrained=o/m", scores, group_subtasks=members, **more)
        assert [row.shots for row in leaderboard.load(tmp_path).rows] == [5]

    def test_english_tasks_stand_beside_kobests_of_their_name(self, tmp_path: Path) -> None:
        scores = {"boolq": 0.75, "kobest_boolq": 0.25, "kobest_wic": 0.5}
        lm_eval(tmp_path, "pretrained=o/m", {task: {"acc,none": value} for task, value in scores.items()})
        board = leaderboard.load(tmp_path)
        heading, _, line, *_ = tables.markdown(board).splitlines()
        assert "| kobest_boolq | wic | boolq |" in heading
        assert all(one in line for one in ("75.0", "25.0", "50.0"))
        assert (_task(board, "boolq"), _task(board, "wic")) == ("boolq", "kobest_wic")

    def test_a_task_named_as_another_column_loses_it_nowhere(self, tmp_path: Path) -> None:
        odd = ("mean", "n", "size", "variant", "Kind", "종류", "dtype", "arc", "arc_n", "arc_difference_low")
        lm_eval(tmp_path, "pretrained=o/m", {task: {"acc,none": (7 + i) / 20} for i, task in enumerate(odd)})
        board = leaderboard.load(tmp_path)
        assert len(board.tasks) == len(odd)
        (record,) = tables.records(board)
        assert [record[column] for column in board.tasks] == [board.rows[0].cells[c].value for c in board.tasks]
        assert (record["variant"], record["arc_n"], record["n"]) == ("o/m", 4, 40)
        for language in ("en", "ko"):
            heading = tables.markdown(board, language).splitlines()[0]
            assert all(f"| {board.short(column)} |" in heading for column in board.tasks)

    def test_an_accuracy_that_no_count_of_right_answers_gives_stays_as_it_is(self, tmp_path: Path) -> None:
        lm_eval(tmp_path, "pretrained=o/m", {"own": {"exact_match,none": 0.33, "exact_match_stderr,none": 0.1}})
        assert "| 0.33 ± 0.1 |" in tables.markdown(leaderboard.load(tmp_path))

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
            ('{"results": {"a": {"acc,none": 1}}, "config": {}, "n-shot": {"a": Infinity}}', "another form"),
            ('{"results": {"a": {"acc,none": %s}}, "config": {}}' % ("1" * 400), "another form"),
            ('{"results": {"a": {"acc,none": %s}}, "config": {}}' % ("1" * 5000), "limit (4300 digits)"),
            (
                '{"results": {"a": {"acc,none": 1}}, "config": {}, "group_subtasks": {"a": ["b"], "b": ["a"]}}',
                "recursion",
            ),
            ('{"results": {"a": {"bypass,none": 999}}, "config": {}}', "a has answers that nobody scored"),
            ('{"results": {"a": {"perplexity": 3}}, "config": {}}', "no number of a is a metric"),
        ],
    )
    def test_a_broken_file_is_named_and_the_others_are_shown(self, tmp_path: Path, text: str, said: str) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC)
        (tmp_path / "results_2026-01-01T00-00-00.json").write_text(text)
        board = leaderboard.load(tmp_path)
        assert names(board) == ["o/m"]
        assert said in board.faults[0].message

    def test_a_date_out_of_range_and_instructions_that_are_no_text_cost_no_traceback(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text('{"results": {"a": {"acc,none": 1}}, "config": {}, "date": 1e30}')
        with pytest.raises(MadangError, match="another form"):
            leaderboard.load(tmp_path)
        (tmp_path / "results.json").write_text(
            '{"results": {"a": {"acc,none": 1}}, "config": {}, "system_instruction": []}'
        )
        assert len(leaderboard.load(tmp_path).rows) == 1

    def test_half_signs_are_shown_and_written(self, tmp_path: Path) -> None:
        path = lm_eval(tmp_path, "pretrained=o/m", ACC)
        path.write_text(path.read_text().replace("arc_easy", "arc\\ud800").replace("o/m", "o/\\udc80\\ud83d\\ude00"))
        board = leaderboard.load(tmp_path)
        assert names(board) == ["o/?😀"]
        for text in (tables.markdown(board), tables.csv_text(board), tables.json_text(board)):
            assert text.encode()

    def test_folders_whose_names_are_no_utf8_are_read_and_written(self, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        lm_eval(folder, None, ACC).rename(folder / "results_2026-01-01T00-00-00.json")
        lm_eval(folder, "pretrained=o/m,peft=a", ACC, model_name="o/m")
        (folder / "results_2026-01-02T00-00-00.json").write_text("{")
        board = leaderboard.load(folder)
        for text in (tables.markdown(board), tables.csv_text(board), tables.json_text(board)):
            assert text.encode()

    def test_a_pipe_is_refused(self, tmp_path: Path) -> None:
        lm_eval(tmp_path, "pretrained=o/m", ACC)
        os.mkfifo(tmp_path / "results_2026-01-01T00-00-00.json")
        os.mkfifo(tmp_path / "other.json")
        (fault,) = leaderboard.load(tmp_path).faults
        assert "is a pipe" in fault.message

    @pytest.mark.parametrize("begin", ["", "\ufeff"])
    def test_files_of_any_name_are_known_by_what_they_hold(self, tmp_path: Path, begin: str) -> None:
        path = lm_eval(tmp_path, "pretrained=o/m", ACC)
        sorted_keys = json.dumps(json.loads(path.read_text()), sort_keys=True)
        path.unlink()
        (tmp_path / "mine.json").write_text(begin + sorted_keys, encoding="utf-8")
        assert names(leaderboard.load(tmp_path)) == ["o/m"]

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

    @pytest.mark.parametrize(("metric", "choice"), [("acc", 0), ("acc_norm", 1), ("acc_bytes", 2), ("f1", None)])
    def test_the_choice_that_counted_is_the_one_that_the_metric_looks_at(self, metric: str, choice: int | None) -> None:
        sent = {f"gen_args_{i}": {"arg_0": "q", "arg_1": f" {text}"} for i, text in enumerate(("a", "abcd", "가나다"))}
        answers = [["-3.0", "False"], ["-4.0", "False"], ["-5.0", "False"]]
        row = {"doc_id": 0, "doc": {}, "target": "0", "arguments": sent, "filtered_resps": answers}
        sample = Sample.model_validate(row | {f"{what}_hash": "x" for what in ("doc", "prompt", "target")})
        assert sample.answer(metric) == choice

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
