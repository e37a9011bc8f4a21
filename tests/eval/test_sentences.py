"""Every verdict has its sentence in both languages, with its numbers, and names Holm where he was asked."""

from string import Formatter
from typing import get_args

import pytest

from eval import paired
from eval.paired import Table
from eval.sentences import sentence
from eval.words import words
from playground.wording import Language


def test_both_languages_have_the_same_keys_and_fields() -> None:
    def fields(text: str) -> set[str | None]:
        return {field for _, field, _, _ in Formatter().parse(text) if field}

    english, korean = words("en"), words("ko")
    assert english.keys() == korean.keys()
    for key, text in english.items():
        assert fields(text) == fields(korean[key]), key


@pytest.mark.parametrize(
    ("table", "english"),
    [
        (Table(400, 10, 90, 500), "better, by 8.0 points on 1,000 documents"),
        (Table(400, 90, 10, 500), "worse, by 8.0 points on 1,000 documents"),
        (Table(0, 1, 1, 0), "2 documents are too few to show any difference"),
        (Table(0, 0, 0, 0), "no documents in common"),
    ],
)
def test_differences(table: Table, english: str) -> None:
    assert sentence(paired.difference([table])) == english


def test_no_difference_says_the_smallest_that_could_be_shown() -> None:
    said = sentence(paired.difference([Table(500, 85, 85, 734)]))
    assert said == "no difference that 1,404 documents can show; the smallest they could is 2.6 points"


def test_losses() -> None:
    assert sentence(paired.loss([Table(3000, 5, 5, 990)])) == (
        "no more than 1 point lost: shown by these 4,000 documents"
    )
    assert "2.5 points lost: refuted" in sentence(paired.loss([Table(100, 90, 5, 805)], 0.025))
    assert "not decided by these 100 documents, which leave up to" in sentence(paired.loss([Table(50, 5, 5, 40)]))


def test_holm_is_said_where_it_was_applied() -> None:
    one = paired.difference([Table(400, 10, 90, 500)])
    for language in get_args(Language):
        assert "Holm" not in sentence(one, language)
        assert all("Holm" in sentence(each, language) for each in paired.correct_differences([one, one]))


def test_korean() -> None:
    assert sentence(paired.difference([Table(400, 10, 90, 500)]), "ko") == "더 낫습니다: 문서 1,000개에서 8.0점 높음"
    assert sentence(paired.loss([Table(3000, 5, 5, 990)]), "ko") == "손실 1점 이내: 문서 4,000개로 확인됨"
