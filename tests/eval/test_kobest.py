"""KoBEST's files: read as the Hub has them, refused where they are broken, built into lm-eval's tasks offline."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from eval import kobest
from eval.samples import Sample, read
from playground.errors import MadangError

PAPER = {"kobest_boolq": 1404, "kobest_copa": 1000, "kobest_hellaswag": 500, "kobest_sentineg": 397, "kobest_wic": 1260}


def as_the_hub_read_them(data: Path, task: str, split: str) -> list[dict[str, object]]:
    """The Hub's loader: pandas' defaults, rows with a gap dropped, labels mapped to numbers."""
    layout = kobest.LAYOUTS[task]
    frame = pd.read_csv(data / layout.folder / f"{kobest.SPLITS[split]}.tsv", sep="\t").dropna()
    if task in ("kobest_boolq", "kobest_wic"):
        numbers = [0 if str(label) == "False" else 1 for label in frame[layout.label]]
    else:
        numbers = [int(label) - (task == "kobest_copa") for label in frame[layout.label]]
    columns = {name: frame[column].tolist() for name, column in layout.columns.items()} | {"label": numbers}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("task", kobest.LAYOUTS)
@pytest.mark.parametrize("split", kobest.SPLITS)
class TestAsTheHub:
    def test_sample(self, kobest_sample: Path, task: str, split: str) -> None:
        assert kobest.read(kobest_sample, task, split) == as_the_hub_read_them(kobest_sample, task, split)

    def test_real(self, real_kobest: Path, task: str, split: str) -> None:
        rows = kobest.read(real_kobest, task, split)
        assert rows == as_the_hub_read_them(real_kobest, task, split)
        assert split != "test" or len(rows) == PAPER[task]


def test_fields_stand_in_the_hubs_order(kobest_sample: Path) -> None:
    assert list(kobest.read(kobest_sample, "kobest_copa", "test")[0]) == [
        *("premise", "question", "alternative_1", "alternative_2", "label")
    ]


def test_strings_stay_as_they_are(kobest_sample: Path) -> None:
    assert str(kobest.read(kobest_sample, "kobest_boolq", "test")[0]["paragraph"]).endswith("열린다. ")
    assert kobest.read(kobest_sample, "kobest_copa", "test")[1]["question"] == "원인 "
    assert kobest.read(kobest_sample, "kobest_hellaswag", "test")[1]["ending_3"] == (
        '은행나무 앞에서 "마당!"이라고 외친다.'
    )


def test_sentineg_tests_the_negated_sentence(kobest_sample: Path) -> None:
    assert kobest.read(kobest_sample, "kobest_sentineg", "test")[0] == {
        "sentence": "감나무 화분이 시들지 않아서 좋아요 test",
        "label": 1,
    }


@pytest.fixture
def copy(kobest_sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kobest_sample, tmp_path / "kobest"))


def spoil(data: Path, line: int, old: str, new: str, file: str = "COPA/test.tsv") -> None:
    lines = (data / file).read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (data / file).write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (3, "\t원인", " 원인", "line 3: 5 columns where the header has 6"),
        (3, "은행나무가", "은행\t나무가", "line 3: 7 columns where the header has 6"),
        (4, "\t1", "\t3", "line 4: Answer is '3'"),
        (4, "\t1", "\t", "line 4: Answer is ''"),
        (2, "결과", "", "line 2: column question is empty"),
        (5, "test", '"test', "line 5: a field begins with a quote that closes only on line 9, or never"),
        (1, "Answer", "Antwort", "has no column Answer"),
    ],
)
def test_broken_lines_are_named(copy: Path, line: int, old: str, new: str, said: str) -> None:
    spoil(copy, line, old, new)
    with pytest.raises(MadangError, match="test.tsv") as error:
        kobest.read(copy, "kobest_copa", "test")
    assert said in error.value.message
    assert error.value.hint


def test_a_wrong_truth_is_named(copy: Path) -> None:
    spoil(copy, 2, "FALSE", "no", "BoolQ/test.tsv")
    with pytest.raises(MadangError, match="line 2: Answer is 'no'") as error:
        kobest.read(copy, "kobest_boolq", "test")
    assert "True or False" in error.value.hint


def test_missing_and_empty_files(copy: Path) -> None:
    (copy / "WiC" / "dev.tsv").unlink()
    (copy / "BoolQ" / "test.tsv").write_text("")
    (copy / "SentiNeg" / "test.tsv").write_text("Text\tLabel\n")
    shutil.rmtree(copy / "HellaSwag")
    for task, split, said in (
        ("kobest_wic", "validation", "has no dev.tsv, the validation split"),
        ("kobest_boolq", "test", "test.tsv is empty"),
        ("kobest_sentineg", "test", "no rows below its header"),
        ("kobest_hellaswag", "test", "has no folder HellaSwag"),
        ("kobest_boolc", "test", "no KoBEST task named 'kobest_boolc'"),
        ("kobest_boolq", "dev", "no split named 'dev'"),
    ):
        with pytest.raises(MadangError, match=said):
            kobest.read(copy, task, split)
    with pytest.raises(MadangError, match="There is no folder") as error:
        kobest.read(copy / "nowhere", "kobest_wic", "test")
    assert "SKT-LSL/KoBEST_datarepo" in error.value.hint


def test_a_file_in_another_encoding(copy: Path) -> None:
    path = copy / "COPA" / "test.tsv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp949"))
    with pytest.raises(MadangError, match="line 2: not UTF-8"):
        kobest.read(copy, "kobest_copa", "test")


def test_a_byte_order_mark_is_no_part_of_a_column(copy: Path) -> None:
    path = copy / "HellaSwag" / "test.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(kobest.read(copy, "kobest_hellaswag", "test")) == 8


def test_written_rows_read_back(kobest_sample: Path, tmp_path: Path) -> None:
    changes = kobest.write(kobest_sample, tmp_path, ["kobest_copa"])
    files = changes["kobest_copa"]["dataset_kwargs"]["data_files"]
    assert list(files) == ["train", "validation", "test"]
    rows = [json.loads(line) for line in Path(files["test"]).read_text(encoding="utf-8").splitlines()]
    assert rows == kobest.read(kobest_sample, "kobest_copa", "test")
    assert not list(tmp_path.rglob("*.part"))


def test_configs_change_only_where_rows_come_from(kobest_sample: Path, tmp_path: Path) -> None:
    changes = kobest.write(kobest_sample, tmp_path)
    original = {task: kobest.configs({task: {}})[0] for task in changes}
    for config in kobest.configs(changes):
        before = original[config["task"]]
        changed = {key for key in config.keys() | before.keys() if config.get(key) != before.get(key)}
        assert {key for key in changed if not callable(before.get(key))} <= {
            "dataset_path",
            "dataset_name",
            "dataset_kwargs",
            "metric_list",  # holds a function, which is another object each time it is read
        }


PROMPTS = {
    "kobest_boolq": ("우리 마당 1번", " 질문: 1번 자리에 서 있는 것은 연못인가? 답변: ", [" 아니오", " 예"]),
    "kobest_copa": (
        "test 마당의 감나무가",
        "자랐다.  그래서",
        [" 감나무 그늘이 넓어졌다.", " 감나무 열쇠를 잃어버렸다."],
    ),
    "kobest_hellaswag": ("문장: test 날 아침", "물뿌리개가 있다.", None),
    "kobest_sentineg": ("문장: 감나무 화분이", "좋아요 test 긍부정:", [" 부정", " 긍정"]),
    "kobest_wic": ("문장1: [배]를", "두 문장에서 배가 같은 뜻으로 쓰였나?", [" 아니오", " 예"]),
}


@pytest.mark.parametrize("task", PROMPTS)
def test_lm_eval_asks_its_own_prompts(lm_eval_run: object, task: str) -> None:
    folder = lm_eval_run.folder  # type: ignore[attr-defined]
    (path,) = folder.glob(f"samples_{task}_*")
    first = read(path, Sample)[0]
    begins, ends, choices = PROMPTS[task]
    shots, question = first.prompt.rsplit("\n\n", 1)
    assert question.startswith(begins)
    assert question.endswith(ends)
    assert choices in (None, first.choices)
    assert shots.count("\n\n") == 1
    assert "train" in shots or "마당" in shots
