"""Messages by key: both languages say the same of the same fields, and nothing is raised in English alone."""

import ast
import json
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground import errors, wording
from playground.cli import language
from playground.errors import MadangError, UnknownNameError, VariantError, WorkerError
from playground.events import Failed
from playground.page.words import card, read
from playground.wording import Worded, in_language, joined, packed, particle_for, revived, worded
from tests.places import ROOT

WINGS = ["playground"]
"""Wings whose errors all have keys."""
FIELD = re.compile(r"(?<!{){(\w+)")
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, MadangError)}
TESTED_ALONE = {"playground/backends/fake.py"}


def templates(wing: str, language: str) -> dict[str, str]:
    """The messages of a wing by key, as its file has them."""
    text = (ROOT / wing / "locales" / f"errors.{language}.toml").read_text(encoding="utf-8")
    before = "" if wing == "playground" else f"{wing}."
    return {f"{before}{room}.{name}": said for room, rows in tomllib.loads(text).items() for name, said in rows.items()}


def calls(wing: str) -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in a wing: where it stands, itself, and the name that is called."""
    for path in sorted((ROOT / wing).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                yield f"{where}:{node.lineno}", node, str(name)


@pytest.mark.parametrize("wing", WINGS)
def test_both_languages_say_the_same_of_the_same_fields(wing: str) -> None:
    english, korean = templates(wing, "en"), templates(wing, "ko")
    assert english.keys() == korean.keys()
    unlike = {key for key in english if set(FIELD.findall(english[key])) != set(FIELD.findall(korean[key]))}
    assert unlike == set()
    assert {key for key, text in korean.items() if not re.search("[가-힣{(]", text)} == set()


@pytest.mark.parametrize("wing", WINGS)
def test_each_message_is_used_and_gets_its_fields(wing: str) -> None:
    known = templates(wing, "en")
    places = [
        ROOT / "app.py",
        *(path for one in ("playground", "training", "eval") for path in (ROOT / one).rglob("*.py")),
    ]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in places)
    named = set(re.findall(r"""["']([\w.]+)["']""", sources))
    mains = {re.sub(r"(_hint)?(_page)?$", "", key) for key in known if not key.startswith("machine.")}
    assert {key for key in mains - named if f"{key}_hint" not in named} == set()
    for where, call, name in calls(wing):
        if name == "worded" and call.args and isinstance(call.args[0], ast.Constant):
            key, given = str(call.args[0].value), {word.arg for word in call.keywords}
            assert key in known, where
            needs = {
                field
                for part in ("", "_hint", "_page", "_hint_page")
                for field in FIELD.findall(known.get(key + part, ""))
            }
            assert None in given or needs <= given, f"{where}: {needs - given}"


@pytest.mark.parametrize("wing", WINGS)
def test_nothing_is_raised_in_english_alone(wing: str) -> None:
    plain = [
        f"{where} {ast.unparse(part)}"
        for where, call, name in calls(wing)
        if name in KINDS and where.partition(":")[0] not in TESTED_ALONE
        for part in call.args[:2]
        if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and part.value)
    ]
    assert plain == []


def test_an_error_brings_the_hint_of_its_message() -> None:
    error = VariantError(worded("hub.no_revision", repo="a/b", revision="main"))
    assert str(error) == "a/b has no revision 'main'."
    assert error.hint == "Check `revision` in the catalogue."
    assert in_language(error.message, "ko") == "a/b에 'main'이라는 리비전이 없습니다."
    assert VariantError(worded("prompting.prompt_empty"), "Type.").hint == "Type."


def test_a_message_crosses_processes_and_files_whole() -> None:
    inner = worded("quantized.not_read")
    error = worded("quantized.quantized_format", folder="m", found="exl3", why=inner)
    there = revived(json.loads(json.dumps(packed(error))))
    assert there == str(error) == "m is quantized in the format exl3: transformers does not read it."
    assert in_language(there, "ko") == "m은 exl3 형식으로 양자화되어 있습니다: transformers가 읽지 못하는 형식입니다."
    event = Failed.model_validate_json(Failed(variant="v", message=error, hint="Plain.").model_dump_json())
    assert isinstance(event.message, Worded)
    assert event.message.key == error.key
    assert event.hint == "Plain."
    assert not isinstance(event.hint, Worded)
    assert in_language(pickle.loads(pickle.dumps(error)), "ko") == in_language(error, "ko")


def test_what_no_release_knows_is_still_told_in_english() -> None:
    assert in_language(Worded("It broke.", "gone.key", {}), "ko") == "It broke."
    assert in_language(Worded("It broke.", "hub.no_revision", {}), "ko") == "It broke."
    for odd in ({"text": 1, "key": "a.b", "fields": {}}, {"text": "x"}, "plain", None):
        assert revived(odd) == odd
    with pytest.raises(KeyError):
        worded("hub.no_such_key")


def test_page_and_terminal_name_their_own_remedies() -> None:
    hint = VariantError(worded("prompts.no_chat_template", variant="m", format_names="alpaca")).hint
    assert "prompt_format" in in_language(hint, "en")
    assert "prompt_format" in in_language(hint, "ko")
    assert in_language(hint, "en", "page") == "Add it again under Models with a prompt format: alpaca."
    assert "모델 탭" in in_language(hint, "ko", "page")


@pytest.mark.parametrize("wing", WINGS)
def test_no_hint_of_the_page_names_a_flag_or_a_command(wing: str) -> None:
    for code in wording.LANGUAGES:
        for key, text in templates(wing, code).items():
            if key.endswith("_page"):
                assert not re.search(r"(^|\s)--\w|`madang ", text), key


@pytest.mark.parametrize(
    ("word", "particle", "wanted"),
    [
        ("마당", "을(를)", "을"),
        ("모델", "(으)로", "로"),
        ("허브", "은(는)", "는"),
        ("학습", "(으)로", "으로"),
        ("smollm2", "이(가)", "가"),
        ("Q4_K_M", "은(는)", "은"),
        ("model.gguf", "을(를)", "를"),
        ("rows.jsonl", "(으)로", "로"),
        ("'mine'", "과(와)", "와"),
        ("<b>lee</b>", "이(가)", "가"),
        ("&#x27;한글&#x27;", "은(는)", "은"),
        ("7", "(으)로", "로"),
        ("3", "(이)", "이"),
        ("", "을(를)", "을(를)"),
        ("→", "을(를)", "을(를)"),
    ],
)
def test_particles_follow_the_last_sound(word: str, particle: str, wanted: str) -> None:
    assert particle_for(word, particle) == wanted


def test_the_page_holds_both_languages_and_escapes_what_others_wrote() -> None:
    shown = read(worded("hub.no_revision", repo="<img>", revision="x"))
    assert shown.count("&lt;img&gt;") == 2
    assert "<img>" not in shown
    assert 'lang="ko"' in shown
    assert "리비전이 없습니다" in shown
    assert "has no revision" in shown
    assert "리비전" in card("problem.page", worded("hub.no_revision", repo="a/b", revision="x"))
    assert read("plain <b>") == "plain &lt;b&gt;"


def test_an_unknown_name_is_told_in_korean_with_its_near_matches() -> None:
    error = UnknownNameError(worded("noun.preset"), "creativ", ["creative", "factual"])
    assert f"{error.message} {error.hint}" == "There is no preset named 'creativ'. Did you mean creative?"
    assert in_language(error.message, "ko") == "'creativ'라는 프리셋이 없습니다."
    assert in_language(error.hint, "ko") == "혹시 creative인가요?"


def test_several_messages_are_one() -> None:
    both = joined([worded("prompting.prompt_empty"), "Plain.", worded("openai.shorten")])
    assert in_language(revived(packed(both)), "ko").startswith("프롬프트가 비어 있습니다. Plain. 질문이나")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "ko_KR.EUC-KR"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "MADANG_LANGUAGE": "en"}, "en"),
        ({"MADANG_LANGUAGE": "ko"}, "ko"),
        ({"MADANG_LANGUAGE": "fr", "LANG": "ko_KR.UTF-8"}, "ko"),
    ],
)
def test_the_terminal_speaks_the_language_it_is_told(
    environment: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MADANG_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language.language() == wanted


def test_a_command_ends_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_LANGUAGE", "ko")
    said = language.ending(WorkerError(worded("process.worker_gone", name="smollm2")))
    assert said == "오류: smollm2의 워커가 없습니다.\n해결: 다시 질문하면 새로 시작합니다.\n"


def test_no_message_is_read_before_one_is_told() -> None:
    code = (
        "import app, playground.wording as w, training.data.checks, eval.cli;"
        "import playground.catalogue.variants; assert w._read.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(ROOT))
