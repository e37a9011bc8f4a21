"""Every check beside a planted fault, and silent on its clean counterpart."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import VariantError
from tests.playground.chat_templates import DROPS_ALL, DROPS_SYSTEM, LAST_ALONE
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import KOALPACA, KTO, MESSAGES, PREFERENCE, SHAREGPT, TEXT, data, talk, talks
from training.data import encodings
from training.data.checks import check
from training.data.encoder import Encoder
from training.data.examples import Example, Turn
from training.data.faults import usable
from training.data.findings import Finding, fatal, listed
from training.data.formats import Data
from training.data.lengths import measure

CLEAN = ("안녕?", "안녕하세요, 반갑습니다.")
NFD = unicodedata.normalize("NFD", "한글 문장")


def found(rows: Data) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {finding.check: (finding.severity, finding.rows) for finding in check(rows)}


@pytest.mark.parametrize("rows", [KOALPACA, KTO, MESSAGES, PREFERENCE, SHAREGPT, TEXT])
def test_sound_rows_have_no_findings(rows: list[dict[str, Any]]) -> None:
    assert check(data(rows)) == []


PLANTED = {
    "empty": ("fatal", (" ", "\n")),
    "meaningless": ("fatal", ("?!", "… 😊")),
    "missing-answers": ("fatal", ("왜?", "  ")),
    "roles": ("fatal", ("왜?", "그래서.", "또?")),
    "half-characters": ("fatal", ("왜?", "그\ud83d래서")),
    "wordless-answers": ("warning", ("그림은?", "😊")),
    "mojibake": ("warning", ("인사", "ì•ˆë…•")),
    "lost-characters": ("warning", ("인사", "안\ufffd하세요")),
    "control-characters": ("warning", ("인사", "안녕\x07하세요")),
    "decomposed": ("warning", ("인사", NFD)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_in_its_row_alone(name: str) -> None:
    severity, said = PLANTED[name]
    assert found(talks(CLEAN, said, ("둘", "셋"))) == {name: (severity, (2,))}


def test_an_empty_question_is_empty_and_an_empty_system_message_is_not() -> None:
    assert found(talks((" ", "답"))) == {"empty": ("fatal", (1,))}
    assert found(data([*TEXT, {"text": " \n"}])) == {"empty": ("fatal", (3,))}
    system = Example(1, "conversation", (Turn("system", ""), Turn("user", "왜?"), Turn("assistant", "그래서")))
    assert found(Data([system], "messages", "x")) == {}


@pytest.mark.parametrize(
    ("roles", "what"),
    [
        (["user", "judge", "assistant"], "unknown role 'judge'"),
        (["user", "tool", "assistant"], "tool's result that follows no answer"),
        (["user", "assistant", "tool", "user"], "tool's result without an answer"),
        (["user", "assistant", "tool"], "end without an answer"),
        (["tool", "assistant"], "begin with a tool's result"),
        (["user", "assistant", "tool", "tool", "assistant"], ""),
        (["user", "system", "assistant"], "not the first"),
        (["user", "user", "assistant"], "twice in a row"),
        (["system", "assistant"], "begin with an answer"),
        (["user"], "without an answer"),
        (["system"], "without an answer"),
        (["user", "assistant"], ""),
        (["system", "user", "assistant", "user", "assistant"], ""),
    ],
)
def test_roles_out_of_order(roles: list[str], what: str) -> None:
    example = Example(7, "conversation", tuple(Turn(role, "말") for role in roles))
    messages = [finding.message for finding in check(Data([example], "messages", "x"))]
    assert messages == ([] if not what else messages)
    assert not what or what in messages[0]
    assert usable(example) == (not what)


def test_a_pairs_prompt_ends_with_a_question() -> None:
    turns = (Turn("user", "왜?"), Turn("assistant", "그래서"))
    pair = Example(1, "preference", turns, chosen="좋다", rejected="나쁘다")
    assert found(Data([pair], "preference", "x")) == {"roles": ("fatal", (1,))}


def test_pairs_that_are_equal_and_pairs_that_lack_a_side() -> None:
    same = PREFERENCE[0] | {"rejected": " 빛이 산란하기  때문입니다."}
    lacking = PREFERENCE[1] | {"rejected": ""}
    assert found(data([*PREFERENCE, same, lacking])) == {
        "same-answers": ("fatal", (3,)),
        "missing-answers": ("fatal", (4,)),
    }


def rated(good: int, bad: int) -> list[dict[str, Any]]:
    return [{"prompt": f"q{n}", "completion": f"a{n}", "label": n < good} for n in range(good + bad)]


@pytest.mark.parametrize(
    ("good", "bad", "severity", "said"),
    [
        (3, 0, "warning", "sft is for"),
        (0, 3, "warning", "other kind"),
        (4, 3, "", ""),
        (30, 10, "note", "undesirable_weight between 2.25 and 3.00"),
        (10, 30, "note", "trainer.desirable_weight between 3.00 and 4.00"),
    ],
)
def test_ratings_of_one_kind_and_too_many_of_one(good: int, bad: int, severity: str, said: str) -> None:
    findings = check(data(rated(good, bad)))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(said in f"{finding.message} {finding.remedy}" for finding in findings)


def test_an_answer_that_is_rated_both_ways() -> None:
    rows = [*rated(2, 2), rated(2, 2)[0] | {"label": False}, rated(2, 2)[1]]
    assert found(data(rows)) == {"rated-both-ways": ("warning", (1, 5)), "duplicates": ("warning", (6,))}


def test_a_marked_answer_is_not_rated() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    assert found(data([*rated(1, 1), {"messages": turns, "label": True}]))["nothing-learnt"] == ("fatal", (3,))


def test_duplicates_aside_from_spaces_and_composition() -> None:
    again = (unicodedata.normalize("NFD", CLEAN[0]), CLEAN[1].replace(" ", "\n "))
    seen = found(talks(CLEAN, ("하나", "둘"), again, (CLEAN[0], "다른 답")))
    assert seen["duplicates"] == ("warning", (3,))
    assert seen["same-question"] == ("note", (4,))


def test_what_is_fatal_is_counted_once_and_comes_first() -> None:
    rows = talks(("왜?", "ì•ˆë…•"), (" ", " "), (" ", " "))
    assert [(f.check, f.rows) for f in check(rows)] == [("empty", (2, 3)), ("mojibake", (1,))]


def test_findings_of_the_reading_are_kept() -> None:
    unread = Finding("unreadable", "fatal", (9,), "not valid JSON", "Correct it.", True)
    rows = talks(CLEAN)
    assert check(Data(rows.examples, "messages", "x", [unread])) == [unread]


def test_rows_are_listed_briefly_and_a_refusal_names_them() -> None:
    assert listed(range(1, 9)) == "1, 2, 3, 4, 5, 6, 7, 8"
    assert listed(range(1, 141)) == "1, 2, 3, 4, 5, 6, 7, 8 and 132 more"
    assert fatal(check(talks(CLEAN))) == ""
    assert fatal(check(talks(("왜?", "")))) == "1 row without an answer (1)"


@pytest.mark.parametrize(
    ("mangled", "meant"),
    [
        ("안녕하세요".encode().decode("latin-1"), "안녕하세요"),
        ("좋은 “아침”".encode().decode("cp1252", "ignore"), None),
        ("안녕하세요".encode("cp949").decode("latin-1"), "안녕하세요"),
        ("ì•ˆë…• 세상", "안녕 세상"),
        ("CafÃ© à la carte", "Café à la carte"),
        ("naïve Ångström – “quoted” £5 ½ ÄÖÜ", "naïve Ångström – “quoted” £5 ½ ÄÖÜ"),
        ("«À bientôt» dit-il à l’été", "«À bientôt» dit-il à l’été"),
    ],
)
def test_mojibake_is_undone_where_that_is_certain(mangled: str, meant: str | None) -> None:
    if meant is not None:
        assert encodings.unmangled(mangled) == meant


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=2))
def test_any_hangul_comes_back_from_latin_1(text: str) -> None:
    assert encodings.unmangled(text.encode().decode("latin-1")) == text


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_mending_changes_nothing_twice(text: str) -> None:
    assert encodings.mended(encodings.mended(text)) == encodings.mended(text)


def test_old_hangul_that_has_no_composed_form_is_left() -> None:
    assert found(talks(("옛말", "\u1112\u119e\u11ab 글"))) == {}  # 'ᄒᆞᆫ'


def test_lone_surrogates_never_reach_a_digest() -> None:
    assert "half-characters" in found(talks(("왜?", "\ud800"), ("왜?", "a\ud800")))
    assert not usable(talk("왜?", "a\ud800"))


def system_row(row: int, *said: str) -> Example:
    turns = (Turn("system", "a b"), *(Turn(("user", "assistant")[n % 2], text) for n, text in enumerate(said)))
    return Example(row, "conversation", turns)


def test_what_a_template_has_no_place_for_is_told_with_its_rows(tmp_path: Path) -> None:
    rows = Data(
        [system_row(1, "a", "b"), talk("c", "d", row=2), talk("e", "f", "g", "h", row=3)], "messages", "x.jsonl"
    )
    for template, wanted in [
        (DROPS_SYSTEM, {"system-in-question": (1,)}),
        (LAST_ALONE, {"system-in-question": (1,), "turns-left-out": (3,)}),
    ]:
        encoder = Encoder(tiny_model(tmp_path / "tiny", template))
        told = {f.check: f.rows for f in check(rows, encoder, lengths=measure(rows, encoder))}
        assert {name: rows for name, rows in told.items() if name in ("system-in-question", "turns-left-out")} == wanted
    assert not [f for f in check(data(TEXT), encoder) if f.check == "turns-left-out"]
    with pytest.raises(VariantError, match="writes nothing of what is asked"):
        measure(rows, Encoder(tiny_model(tmp_path / "tiny", DROPS_ALL)))
