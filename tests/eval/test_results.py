"""lm-eval's files: its own tracker's read, ours equal to them, runs chosen and joined, and every fault named."""

import copy
import errno
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import results
from eval.joining import flips, join
from eval.origin import folder_name, variant_name
from eval.results import Facts
from eval.samples import Mark, ResultsError, Sample, labels, read, rights
from eval.writing import write
from playground.errors import MadangError
from playground.measure.drift import Drift

from .conftest import LmEvalRun
from .runs import make_run, sample

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""lm-eval writes functions with the place where they lay in memory."""
FACTS = Facts(
    variant="a:b:Q8_0",
    base="a:b",
    kind="gguf",
    size_bytes=7,
    drift=Drift(against="a:b", mean_kl=0.1, p99_kl=0.4, same_top=0.9, perplexity_ratio=1.02, positions=50),
)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_folder_names_are_reversible_and_lm_eval_leaves_them(name: str) -> None:
    from lm_eval.utils import sanitize_model_name

    folder = folder_name(name)
    assert variant_name(folder) == name
    assert sanitize_model_name(folder) == folder
    assert "/" not in folder
    assert folder not in (".", "..")


def test_folder_names_are_readable() -> None:
    assert folder_name("smollm2:demo:Q4_K_M") == "smollm2~demo~Q4_K_M"
    assert folder_name("skt/한국어-1.5B+x:demo") == "skt@한국어-1.5B+x~demo"


def test_lm_evals_own_files_are_read(lm_eval_run: LmEvalRun) -> None:
    found = results.load(lm_eval_run.folder.parent)
    assert (found.older, found.faults) == ([], [])
    assert len({result.task for result in found.current}) == 5
    of_one = {result.metric: result for result in found.current if result.task == "kobest_hellaswag"}
    one = of_one["acc,none"]
    assert (one.variant, one.shots, one.n, one.total, one.partial) == ("somebody/dummy:x", 2, 8, 8, False)
    assert of_one.keys() == {"acc,none", "acc_norm,none", "f1,none"}
    right = one.rights
    assert right is not None
    assert sum(right) / 8 == one.value
    for full in one.documents.samples():
        assert len(full.choices) == 4
        assert (full.answer() == int(full.target)) == bool(full.values["acc"])


def test_our_files_are_lm_evals(lm_eval_run: LmEvalRun, tmp_path: Path) -> None:
    content = copy.deepcopy(lm_eval_run.content)
    before = copy.deepcopy(content)
    path = write(tmp_path, "somebody/dummy:x", content)
    assert content == before
    assert path.parent.name == "somebody@dummy~x"
    (theirs,) = lm_eval_run.folder.glob("results_*.json")
    mine, other = (json.loads(ADDRESS.sub("", file.read_text(encoding="utf-8"))) for file in (path, theirs))
    assert mine.keys() == other.keys()
    differ = {key for key in mine if mine[key] != other[key]}
    assert differ <= {"model_source", "model_name_sanitized", "total_evaluation_time_seconds", "fewshot_as_multiturn"}
    assert mine["task_hashes"] == other["task_hashes"] != {}
    date = path.stem.removeprefix("results_")
    for samples in lm_eval_run.folder.glob("samples_*"):
        ours = path.with_name(f"{samples.name.rpartition('_')[0]}_{date}.jsonl")
        assert ours.read_text(encoding="utf-8") == samples.read_text(encoding="utf-8")


def test_lm_evals_tools_find_and_read_our_files(lm_eval_run: LmEvalRun, tmp_path: Path) -> None:
    from datasets import load_dataset
    from lm_eval import utils

    path = write(tmp_path, "a:b:Q8_0", lm_eval_run.content, FACTS)
    names = [str(file) for file in path.parent.iterdir()]
    assert utils.get_latest_filename(utils.get_results_filenames(names)) == str(path)
    samples = utils.get_sample_results_filenames(names)
    assert {utils.get_file_task_name(Path(name).name) for name in samples} == lm_eval_run.content["samples"].keys()
    table = utils.make_table(json.loads(path.read_text(encoding="utf-8")))
    assert "kobest_copa" in table
    rows = load_dataset("json", data_files=samples[:1], split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 8


def test_facts_come_back(lm_eval_run: LmEvalRun, tmp_path: Path) -> None:
    write(tmp_path, "a:b:Q8_0", lm_eval_run.content, FACTS)
    found = results.load(tmp_path)
    assert {result.facts for result in found.current} == {FACTS}
    assert {result.variant for result in found.current} == {"a:b:Q8_0"}


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    lm_eval_run: LmEvalRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path, "a", lm_eval_run.content)
    kept = {path: path.read_bytes() for path in first.parent.iterdir()}
    plain, left = Path.write_text, [3]

    def filling(self: Path, text: str, **options: str) -> int:
        left[0] -= 1
        plain(self, text[: len(text) // (2 if left[0] < 0 else 1)], **options)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(text)

    monkeypatch.setattr(Path, "write_text", filling)
    with pytest.raises(MadangError, match="disk is full"):
        write(tmp_path, "a", lm_eval_run.content)
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.rglob("results_*.json"))) == 1
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(results.load(tmp_path).current) == 11


COPA = {"kobest_copa": [True, False, True, True]}


class TestChoosingRuns:
    def test_the_newest_wins_and_the_others_stay_listed(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA, day=2)
        make_run(tmp_path, "a", {"kobest_copa": [False] * 4}, day=1)
        make_run(tmp_path, "a", COPA, day=3, shots=5)
        found = results.load(tmp_path)
        assert [(r.shots, r.value) for r in found.current] == [(0, 0.75), (5, 0.75)]
        assert [r.value for r in found.older] == [0.0]

    def test_a_whole_run_stands_before_a_newer_partial_one(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA, day=1)
        make_run(tmp_path, "a", {"kobest_copa": [False, False]}, day=2, total=4)
        found = results.load(tmp_path)
        assert [(r.n, r.partial) for r in (*found.current, *found.older)] == [(4, False), (2, True)]

    def test_chat_template_and_system_prompt_are_settings_of_their_own(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA, day=1)
        make_run(tmp_path, "a", COPA, day=2, chat_template="{{ x }}")
        make_run(tmp_path, "a", COPA, day=3, system_instruction="Be kind.")
        assert len(results.load(tmp_path).current) == 3

    def test_groups_are_no_tasks_of_their_own(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA | {"kobest": [True]}, group_subtasks={"kobest": ["kobest_copa"]})
        assert [(r.task, r.is_group, r.n) for r in results.load(tmp_path).current] == [
            ("kobest_copa", False, 4),
            ("kobest", True, 0),
        ]

    def test_other_json_files_are_left_alone(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA)
        (tmp_path / "notes.json").write_text("[1]")
        assert results.load(tmp_path).faults == []

    def test_what_older_versions_left_out(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path, "a", COPA, samples=False)
        (path,) = folder.glob("results_*")
        content = json.loads(path.read_text())
        for key in ("n-samples", "n-shot", "model_name", "group_subtasks", "lm_eval_version"):
            del content[key]
        content["configs"]["kobest_copa"]["num_fewshot"] = 3
        (tmp_path / "results.json").write_text(json.dumps(content | {"date": 1.7e9}))
        path.unlink()
        (only,) = results.load(tmp_path).current
        assert (only.variant, only.shots, only.n, only.total, only.partial) == ("a", 3, 4, None, False)

    def test_who_it_is_without_a_name(self, tmp_path: Path) -> None:
        make_run(tmp_path, "x", COPA, folder="a~b", model_name=None, config={"model": "hf", "model_args": None})
        make_run(tmp_path, "y", COPA, model_name=None, config={"model_args": {"pretrained": "own/model"}})
        assert {r.variant for r in results.load(tmp_path).current} == {"a:b", "own/model"}

    def test_one_result_by_name(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA)
        found = results.load(tmp_path)
        assert found.of("a", "kobest_copa").shots == 0
        with pytest.raises(ResultsError) as error:
            found.of("a", "kobest_copa", shots=5)
        assert "a (kobest_copa, 0 shots)" in error.value.hint


class TestJoining:
    def pair(self, out: Path, **other: object) -> tuple[results.Result, results.Result]:
        make_run(out, "a", COPA)
        make_run(out, "a:b", {"kobest_copa": [False, True, True, True]}, **other)  # type: ignore[arg-type]
        found = results.load(out).current
        return found[0], found[1]

    def test_document_by_document(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path)
        joined = join(base, variant)
        assert rights(joined.base, "acc,none") == [True, False, True, True]
        assert rights(joined.variant, "acc,none") == [False, True, True, True]

    def test_only_documents_that_both_were_asked(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA)
        make_run(tmp_path, "a:b", {"kobest_copa": [False, True]}, total=4)
        base, variant = results.load(tmp_path).current
        assert [mark.doc_id for mark in join(base, variant).base] == [0, 1]
        assert len(join(variant, base).variant) == 2

    def test_in_whatever_order_they_stand(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path)
        path = variant.documents.file
        assert path is not None
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
        joined = join(base, variant)
        assert rights(joined.variant, "acc,none") == [False, True, True, True]

    @pytest.mark.parametrize(
        ("other", "cause"),
        [
            ({"prompt": "!", "shots": 5}, "0 and 5 shots"),
            ({"prompt": "!", "chat_template": "x"}, "one with a chat template, one without"),
            ({"prompt": "!", "system_instruction": "x"}, "another system instruction"),
            ({"prompt": "!", "lm_eval_version": "0.4.3"}, "lm-eval 0.4.13 and 0.4.3"),
            ({"prompt": "!", "versions": {"kobest_copa": 2.0}}, "task version 1.0 and 2.0"),
            ({"prompt": "!"}, "another prompt text"),
        ],
    )
    def test_other_prompts_are_refused_with_their_cause(
        self, tmp_path: Path, other: dict[str, object], cause: str
    ) -> None:
        base, variant = self.pair(tmp_path, **other)
        with pytest.raises(ResultsError, match="4 of 4 documents had another prompt") as error:
            join(base, variant)
        assert cause in error.value.hint

    def test_other_documents_and_other_answers_are_refused(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path)
        path = variant.documents.file
        assert path is not None
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(row | {"target_hash": "0"}) for row in rows))
        with pytest.raises(ResultsError, match="another right answer"):
            join(base, variant)
        vars(variant.documents).pop("marks")
        path.write_text("\n".join(json.dumps(row | {"doc_hash": "0"}) for row in rows))
        with pytest.raises(ResultsError, match="no document of kobest_copa in common"):
            join(base, variant)

    def test_no_samples(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path, samples=False)
        with pytest.raises(ResultsError, match="no samples of kobest_copa") as error:
            join(base, variant)
        assert "--log_samples" in error.value.hint

    def test_the_same_document_twice(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path)
        for result, wrong in ((base, 3), (variant, 2)):
            rows = [sample(0, index != wrong) for index in range(4)]
            assert result.documents.file is not None
            result.documents.file.write_text("\n".join(map(json.dumps, rows)))
        joined = join(base, variant)
        assert rights(joined.base, "acc,none") == [True, True, True, False]
        assert rights(joined.variant, "acc,none") == [True, True, False, True]

    def test_flips_can_be_read(self, tmp_path: Path) -> None:
        base, variant = self.pair(tmp_path)
        lost, gained = flips(base, variant)
        assert (lost.gained, lost.base.doc["premise"]) == (False, "document 0")
        assert (gained.gained, gained.base.prompt, gained.base.choices) == (
            *(True, "kobest_copa 1", [" choice 0", " choice 1"]),
        )
        assert (gained.base.answer(), gained.variant.answer()) == (0, 1)


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            ('{"results": {\n"a" 1}}', "line 2: not valid JSON"),
            ("[]", "not a result of lm-eval"),
            ('{"scores": 1}', "no `results` and `config`"),
            ('{"results": {"a": 3}, "config": {}, "lm_eval_version": "9"}', "another form than lm-eval 9"),
            ('{"results": {"a": {"acc": 0.5, "acc_stderr": 0.1}}, "config": {}}', "comes from lm-eval before 0.4"),
            ('{"results": {"a": {"em": 0.5, "em_stderr": 0.1}}, "config": {}}', "comes from lm-eval before 0.4"),
        ],
    )
    def test_broken_results_are_named(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "results_2026-01-01T00-00-00.json").write_text(text)
        with pytest.raises(ResultsError, match=said) as error:
            results.load(tmp_path)
        assert "results_2026-01-01T00-00-00.json" in error.value.message
        assert error.value.hint
        make_run(tmp_path, "a", COPA)
        found = results.load(tmp_path)
        assert (len(found.current), len(found.faults)) == (1, 1)

    def test_not_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "results_2026-01-01T00-00-00.json").write_bytes(b"\xb0\xa1")
        with pytest.raises(ResultsError, match="not UTF-8"):
            results.load(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsError, match="no folder"):
            results.load(tmp_path / "nowhere")
        assert results.load(tmp_path).current == []

    def test_facts_of_another_version(self, tmp_path: Path) -> None:
        make_run(tmp_path, "a", COPA, facts={"variant": "a", "colour": "red", "size_bytes": -1})
        with pytest.raises(ResultsError, match=r"madang_.*size_bytes.*colour|madang_.*colour.*size_bytes"):
            results.load(tmp_path)

    @pytest.mark.parametrize(
        ("line", "said", "hint"),
        [
            ('{"doc_id": 1,', "line 3: JSON", "cut off"),
            ('{"doc_id": 1, "doc": {}, "target": "0"}', "line 3: doc_hash", "0.4.3"),
        ],
    )
    def test_broken_samples_are_named(self, tmp_path: Path, line: str, said: str, hint: str) -> None:
        path = tmp_path / "samples.jsonl"
        path.write_text("\n".join([json.dumps(sample(i, True)) for i in range(2)] + [line]))
        for kind in (Mark, Sample):
            with pytest.raises(ResultsError, match=said) as error:
                read(path, kind)
            assert hint in error.value.hint

    def test_empty_samples(self, tmp_path: Path) -> None:
        (tmp_path / "samples.jsonl").write_text("\n")
        with pytest.raises(ResultsError, match="empty"):
            read(tmp_path / "samples.jsonl", Mark)


def marks(rows: list[dict[str, object]]) -> list[Mark]:
    return [Mark.model_validate(row) for row in rows]


def test_scores_that_are_neither_right_nor_wrong() -> None:
    assert rights(marks([sample(0, True) | {"acc": 0.3}]), "acc,none") is None
    assert rights(marks([sample(0, True)]), "bleu,none") is None
    assert rights(marks([sample(0, True), sample(0, False) | {"filter": "strict"}]), "acc,none") == [True]


def test_labels_for_macro_f1() -> None:
    assert labels(marks([sample(0, True, gold=1), sample(1, False)])) == ([1, 0], [1, 1])
    assert labels(marks([sample(0, True) | {"f1": 0.5}])) is None
