"""Benchmark texts in training rows and the other way round, whatever their spaces and signs; speed with many alike."""

import csv
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.places import KOBEST
from tests.training.data.rows import talk, talks
from training.data.checks import check
from training.data.overlap import LONG, SHORT, by_gram, letters, overlaps

QUESTION = "1번 자리에 서 있는 것은 연못인가?"


def kobest() -> list[tuple[str, str]]:
    """Texts of the sample's BoolQ and COPA, as another part of the program would hand them over."""
    fields = {"kobest_boolq": ("BoolQ", ("Text", "Question")), "kobest_copa": ("COPA", ("sentence", "1", "2"))}
    texts = []
    for task, (folder, columns) in fields.items():
        with (KOBEST / folder / "test.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                texts += [(task, row[column]) for column in columns]
    return texts


def test_a_question_inside_a_row_and_a_row_inside_a_text() -> None:
    rows = talks(
        ("이것은 관계가 없는 질문입니다.", "그렇습니다."),
        (f"읽고 답하라. {QUESTION.replace(' ', '')}", "아니다."),
        ("봄마다 TEST 모임이 그 아래에서 열린다", "예."),
    )
    findings = check(rows, benchmark=kobest())
    assert [(f.check, f.severity, f.rows, f.fix) for f in findings] == [("benchmark", "warning", (2, 3), True)]
    assert "kobest_boolq" in findings[0].message


def test_clean_rows_and_an_empty_benchmark() -> None:
    assert check(talks(("마당이란 무엇인가요?", "집 앞의 빈 땅입니다.")), benchmark=kobest()) == []
    assert overlaps([talk(QUESTION, "예")], []) == {}


def test_short_texts_count_only_as_a_whole_turn() -> None:
    short = "나는 물컵을 놓쳤다"
    assert SHORT <= len(letters(short)) < LONG
    assert overlaps([talk(short + ".", "어머나 저런")], [("copa", short)]) == {"copa": (1,)}
    assert overlaps([talk(f"어제 {short} 그래서", "저런")], [("copa", short)]) == {}
    assert overlaps([talk("예", "아니요")], [("copa", "예")]) == {}


@pytest.mark.parametrize("length", [LONG - 1, LONG])
def test_the_length_from_which_containment_counts(length: int) -> None:
    question = "가나다라마바사아자차카타파하"[:length]
    assert bool(overlaps([talk(f"앞 {question} 뒤", "답")], [("t", question)])) == (length >= LONG)


@given(
    st.lists(st.text("가나다", min_size=1, max_size=30), max_size=8),
    st.lists(st.text("가나다", max_size=30), max_size=8),
)
def test_it_finds_what_comparing_each_with_each_finds(questions: list[str], answers: list[str]) -> None:
    rows = [talk("물음표를 붙인 질문", answer, row=row) for row, answer in enumerate(answers, start=1)]
    wanted = {
        row.row
        for row in rows
        for question in questions
        for part in (letters(row.turns[1].content),)
        if (len(question) >= LONG and question in part)
        or (len(part) >= LONG and part in question)
        or (part == question and len(part) >= SHORT)
    }
    assert set(overlaps(rows, [("t", question) for question in questions]).get("t", ())) == wanted


def test_a_phrase_that_thousands_share_costs_little() -> None:
    phrase = "다음 문장을 읽고 질문에 답하시오. "
    rows = [talk(f"{phrase}{number}번째 이야기는 무엇인가요?", "모른다", row=number) for number in range(3000)]
    questions = [f"{phrase}{number}번째 소식은 누구의 것인가요?" for number in range(3000)]
    assert max(map(len, by_gram(map(letters, questions)).values())) < 20
    start = time.process_time()
    assert overlaps(rows, [("t", question) for question in questions]) == {}
    assert time.process_time() - start < 10
