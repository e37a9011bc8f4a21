"""The verbs as a person types them: what they print, and how they end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

import app
from playground.catalogue.hub import HubFile, HuggingFaceHub
from playground.catalogue.hub_search import HubModel
from playground.catalogue.variants import Catalogue, Gguf
from playground.cli import models
from playground.compare import Playground
from playground.errors import HubError
from playground.events import Stats
from playground.settings import Settings
from playground.system.progress import read
from playground.workers.fetched import Fetched
from tests.planted import free_port, says, serving
from tests.playground.machine import Machine

pytestmark = pytest.mark.timeout(120)


class Shell:
    """Runs `madang …` on a data folder, and gives exit code, output and errors."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings, self.capsys = settings, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        try:
            code: Any = app.main(["--data", str(self.settings.data), *words])
        except SystemExit as end:
            code = end.code
        out, err = self.capsys.readouterr()
        return int(code or 0), out, err


@pytest.fixture
def shell(fake_settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(app, "ensure", lambda settings: pytest.fail("nobody asked for the embedded models"))
    return Shell(fake_settings, capsys)


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


STATS = set(Stats.model_fields)


def test_json_is_one_object_a_variant_in_the_order_asked(shell: Shell) -> None:
    code, out, _ = shell("chat", "--json", "-v", "other", "-v", "base", "-v", "one", "--seed", "7", "안녕")
    assert code == 0
    found = rows(out)
    assert [row["variant"] for row in found] == ["other", "base", "one"]
    for row in found:
        assert set(row) == {
            "variant",
            "text",
            "reason",
            "seed",
            "dropped_turns",
            "notices",
            "reasoning_content",
            *STATS,
        }
        assert row["text"].startswith(f"{row['variant']} heard: 안녕 #")
        assert (row["seed"], row["reason"], row["dtype"]) == (7, "stop", "fake")
        assert row["tokens"] == len(row["text"].encode())
        assert row["first_token_s"] > 0
    assert "안녕" in out  # not as \\uXXXX


def test_a_variant_that_fails_says_why_and_the_exit_code_is_1(shell: Shell) -> None:
    code, out, _ = shell("chat", "--json", "-v", "base", "-v", "broken", "q", "--set", "temperature=0")
    assert code == 1
    assert rows(out)[0]["text"] == "base heard: q"
    assert rows(out)[1] == {"variant": "broken", "error": "fake:broken is broken.", "hint": "Use another path."}


def test_the_same_variant_twice_is_asked_once(shell: Shell) -> None:
    code, out, _ = shell("chat", "--json", "-v", "base", "-v", "base", "q")
    assert (code, len(rows(out))) == (0, 1)


def test_sampling_fields_and_system_prompt(shell: Shell) -> None:
    words = ("chat", "--json", "-v", "base", "--preset", "factual", "--set", "temperature=0")
    _, out, _ = shell(*words, "--set", "max_new_tokens=5", "q")
    assert (rows(out)[0]["text"], rows(out)[0]["reason"]) == ("base ", "length")
    _, out, _ = shell(*words, "--set", "stop=\\n한", "--set", "stop=글", "가\n나\n한글")
    assert rows(out)[0]["text"] == "base heard: 가\n나"
    _, out, _ = shell(*words, "--set", "stop=\\\\n", "a\\nb")
    assert rows(out)[0]["text"] == "base heard: a"
    _, out, _ = shell(*words, "--system", "be brief", "q")
    assert rows(out)[0]["prompt_tokens"] == len("system: be brief\nuser: q\n")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("-v", "bass", "q"), "no variant named 'bass'", "Did you mean base"),
        (("-v", "base", "-p", "factaul", "q"), "no preset named 'factaul'", "factual"),
        (("-v", "base", "--set", "temprature=1", "q"), "no sampling field named 'temprature'", "temperature"),
        (("-v", "base", "--set", "temperature", "q"), "no sampling field named 'temperature'", "--set name=value"),
        (("-v", "base", "--set", "top_p=2", "--set", "seed=-1", "q"), "seed = '-1'", "Change the named fields"),
        (("-v", "base", "  "), "The question is empty", "madang chat"),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(words: tuple[str, ...], error: str, hint: str, shell: Shell) -> None:
    code, out, err = shell("chat", *words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second


def test_a_dash_reads_stdin(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("여러\n줄"))
    _, out, _ = shell("chat", "--json", "-v", "base", "--set", "temperature=0", "-")
    assert rows(out)[0]["text"] == "base heard: 여러\n줄"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert shell("chat", "-v", "base", "-")[0] == 2


def test_bytes_that_are_no_utf8_are_no_traceback(shell: Shell) -> None:
    code, out, _ = shell("chat", "--json", "-v", "base", "--set", "temperature=0", "a\udcffb")
    assert (code, rows(out)[0]["text"]) == (0, "base heard: a\ufffdb")


def test_answers_in_boxes_without_a_terminal(shell: Shell) -> None:
    code, out, _ = shell("chat", "-v", "base", "-v", "broken", "--set", "temperature=0", "q")
    assert code == 1
    assert "base heard: q" in out
    assert "fake:broken is broken." in out
    assert "Use another path." in out
    assert "\x1b" not in out


def test_the_embedded_models_are_made_when_one_is_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Settings] = []
    monkeypatch.setattr(app, "ensure", made.append)
    code, out, _ = shell("chat", "--json", "-v", "smollm2", "q")
    assert made == [shell.settings]
    assert code == 1
    assert "is not a folder" in rows(out)[0]["error"]


def test_help_prepares_nothing(shell: Shell) -> None:
    code, out, _ = shell("chat", "--help")
    assert code == 0
    assert "Ask several variants side by side" in out


def test_models_are_listed(shell: Shell) -> None:
    code, out, _ = shell("models")
    assert code == 0
    assert "smollm2:demo:Q4_K_M" in out
    assert "owner/far" in out
    assert "on the Hub" in out
    assert str(shell.settings.catalogue) in out
    _, listed, _ = shell("models", "--json")
    assert [row["name"] for row in rows(listed)][:4] == ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M", "base"]
    assert all(set(row) >= {"name", "kind", "source"} for row in rows(listed))


def test_typed_control_tokens_are_text_unless_they_are_to_be_parsed(shell: Shell) -> None:
    def tokens(*more: str) -> int:
        return int(rows(shell("chat", "--json", "-v", "base", "a<END>b", *more)[1])[0]["prompt_tokens"])

    assert tokens() - tokens("--parse-special") == len("<END>") - 1


def test_what_is_on_this_machine_is_shown_and_added(
    shell: Shell, machine: Machine, tmp_path: Path, model_files: Any
) -> None:
    assert "Nothing found" in shell("models", "discover")[1]
    machine.pulled("m:1", {"model": machine.raw_gguf()})
    machine.pulled("cloud:1", {"license": b"MIT"})
    model_files.gguf(tmp_path / "mine" / "other.gguf")
    _, out, _ = shell("models", "discover", str(tmp_path / "mine"))
    for said in ("m:1", "other-2", "cloud:1: It runs in Ollama's cloud", "--add other-2"):
        assert said in out
    code, _, err = shell("models", "discover", "--add", "m:1", "--add", "cloud:1")
    assert (code, "Added m:1." in err, "cloud:1 cannot be added" in err) == (1, True, True)
    _, out, _ = shell("models", "discover", "--json")
    assert {row["name"]: row["state"] for row in rows(out)} == {"m:1": "listed", "cloud:1": "refused"}
    code, _, err = shell("models", "discover", "--add", "m:2")
    assert (code, "no model found here named 'm:2'" in err, "Did you mean m:1" in err) == (2, True, True)
    assert shell("models", "discover", str(tmp_path / "mine"), "--all")[0] == 0
    added = Gguf(name="other-2", source=str(tmp_path / "mine" / "other.gguf"))
    assert Catalogue.load(shell.settings).get("other-2") == added


def test_models_to_begin_with_and_a_search(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, _ = shell("models", "suggest")
    for said in ("Korean", "Qwen/Qwen3-0.6B  [base]  0.6B", "apache-2.0", "gated", "madang models add"):
        assert said in out
    found = [HubModel("o/big", "base", 10**15, 2 * 10**15, "mit", True), HubModel("o/q", "gguf")]
    monkeypatch.setattr(HuggingFaceHub, "search", lambda self, query: found if query == "two words" else [])
    _, out, _ = shell("models", "search", "two", "words")
    assert "o/big  [base]  1000000.0B" in out
    assert "mit · gated · too large for this machine" in out
    _, out, _ = shell("models", "search", "two", "words", "--json")
    assert [row["source"] for row in rows(out)] == ["o/big", "o/q"]
    assert "Nothing that could run here" in shell("models", "search", "none")[1]


def test_a_variant_is_fetched_before_it_is_asked(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: object, repo: str, revision: str | None, progress: Any) -> Path:
        progress(0.5, f"{repo}: half")
        raise HubError("The Hub went away.", "Try again.")

    monkeypatch.setattr(HuggingFaceHub, "fetch_folder", fetch)
    code, _, err = shell("models", "fetch", "far", "--progress", str(tmp_path / "progress.json"))
    assert (code, "error: The Hub went away." in err) == (2, True)
    assert read(tmp_path / "progress.json", Fetched) == Fetched(share=0.5, what="owner/far: half")


def test_adding_checks_first_and_guesses_the_kind(shell: Shell, tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "mine")
    adapter = model_files.adapter(tmp_path / "lora")
    gguf = model_files.gguf(tmp_path / "x.gguf")
    code, _, err = shell("models", "add", "mine", str(base))
    assert (code, "no chat template" in err, "madang chat" in err) == (0, True, False)
    code, _, err = shell("models", "add", "mine", str(base), "--set", "prompt_format=alpaca")
    assert (code, "no chat template" in err, "madang chat -v mine" in err) == (0, False, True)
    assert shell("models", "add", "mine:lora", str(adapter), "--base", "mine")[0] == 0
    code, _, err = shell("models", "add", "mine:q4", str(gguf), "--base", "mine:lora", "--set", "context=512")
    assert code == 0
    assert "madang chat -v mine:q4" in err
    listed = {row["name"]: row for row in rows(shell("models", "--json")[1])}
    assert [listed[name]["kind"] for name in ("mine", "mine:lora", "mine:q4")] == ["base", "adapter", "gguf"]
    assert listed["mine:q4"]["context"] == 512
    assert listed["mine"]["prompt_format"] == "alpaca"


def test_what_cannot_be_added(shell: Shell, tmp_path: Path, model_files: Any) -> None:
    before = shell.settings.catalogue.read_text(encoding="utf-8")
    base = model_files.base(tmp_path / "cut")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    adapter = model_files.adapter(tmp_path / "lora")
    for words, error in (
        (("cut", str(base)), "cut short"),
        (("base", str(base)), "named 'base' already"),
        (("a b", str(base)), "name = 'a b'"),
        (("x", str(base), "--kind", "bass"), "kind"),
        (("x", str(base), "--set", "contxt=3", "--set", "dtype=int1"), "contxt = '3'"),
        (("x", str(base), "--set", "context"), "names no value"),
        (("x", str(adapter)), "base: field required"),
        (("x", str(adapter), "--base", "bass"), "Did you mean base"),
        (("x", str(tmp_path / "none.gguf")), "does not exist"),
        (("x", "models/none.gguf"), "models/none.gguf does not exist"),  # and no repository of the Hub
        (("x", "models/none.GGUF", "--kind", "gguf"), "models/none.GGUF does not exist"),
    ):
        code, _, err = shell("models", "add", *words)
        assert code == 2, words
        assert error in err, words
    assert shell.settings.catalogue.read_text(encoding="utf-8") == before


class Shelf:
    """A hub with one base of a given size."""

    def __init__(self, folder: Path, cached: bool = False) -> None:
        self.folder, self.cached, self.fetched = folder, cached, 0

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        return [HubFile("model.safetensors", 3 * 2**30, self.cached)]

    def search(self, query: str) -> list[HubModel]:
        raise AssertionError("nobody searches")

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        return None

    def fetch_plan(self, repo: str, revision: str | None, progress: Any) -> tuple[Path, int]:
        return self.folder, 3 * 2**30

    def fetch_folder(self, repo: str, revision: str | None, progress: Any) -> Path:
        self.fetched += 1
        progress(0.5, "[red]half[/red]")
        return self.folder


@pytest.fixture
def shelf(tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf(model_files.base(tmp_path / "repo"))
    real = Playground
    monkeypatch.setattr(models, "Playground", lambda settings: real(settings, shelf))  # type: ignore[arg-type]
    return shelf


def test_a_download_is_asked_for_with_its_size(shell: Shell, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, _ = shell("models", "add", "new", "owner/new")
    assert (code, shelf.fetched) == (1, 0)
    assert "3.00 GiB" in out
    assert shell("models", "add", "new", "owner/new", "--yes")[0] == 0
    assert shelf.fetched == 1
    code, _, err = shell("models", "add", "new", "owner/other", "--yes")
    assert (code, shelf.fetched) == (2, 1)  # the name is taken, and nothing was fetched for it
    assert "already" in err


def test_what_cannot_run_is_told_before_a_download(shell: Shell, shelf: Shelf, model_files: Any) -> None:
    config = {"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}
    model_files.json(shelf.folder / "config.json", config)
    code, _, err = shell("models", "add", "new", "owner/new", "--yes")
    assert (code, shelf.fetched) == (2, 0)
    assert "reward model" in err


def test_checking_looks_at_files_and_downloads_nothing(
    shell: Shell, shelf: Shelf, tmp_path: Path, model_files: Any
) -> None:
    base, lora = model_files.base(tmp_path / "[b]"), model_files.adapter(tmp_path / "lora", use_dora=True)
    assert shell("models", "add", "mine", str(base))[0] == 0
    assert shell("models", "add", "mine:lora", str(lora), "--base", "mine")[0] == 0
    code, out, _ = shell("models", "check", "mine")
    assert code == 0
    assert out.startswith("mine  ok, needs about 0.")
    assert "answers apart from its base: it uses DoRA" in shell("models", "check", "mine:lora")[1]
    code, out, _ = shell("models", "check", "far")
    assert (code, out.strip()) == (0, "far  not here yet: on the Hub")
    (base / "tokenizer.json").unlink()
    code, out, _ = shell("models", "check")
    assert code == 1
    assert f"mine  {base} has no tokenizer." in out  # brackets in a path are no markup
    assert "smollm2  " in out
    assert shelf.fetched == 0
    assert shell("models", "check", "mien")[0] == 2


def test_removing(shell: Shell) -> None:
    code, _, err = shell("models", "remove", "base")
    assert code == 2
    assert "one, two still build on 'base'" in err
    assert shell("models", "remove", "two")[0] == 0
    assert "two" not in [row["name"] for row in rows(shell("models", "--json")[1])]
    assert "built in" in shell("models", "remove", "smollm2")[2]


def test_an_address_is_added_listed_checked_and_asked(shell: Shell) -> None:
    with serving() as planted:
        planted.replies = [says("서울")]
        code, _, err = shell("models", "add", "away", planted.url, "--base", "base", "--set", "key_env=FAR_API_KEY")
        assert code == 2
        assert "FAR_API_KEY" in err
        code, _, err = shell("models", "add", "away", planted.url, "--base", "base", "--set", "timeout_s=7")
        assert code == 0, err
        code, out, _ = shell("models")
        assert " answers" in next(line for line in out.splitlines() if planted.url in line)
        code, out, _ = shell("models", "check", "away")
        assert (code, "there, context 777" in out) == (0, True)
        code, out, _ = shell("chat", "--json", "-v", "away", "수도는?")
        assert (code, rows(out)[0]["text"]) == (0, "서울")
    code, out, _ = shell("models")
    assert "does not answer" in next(line for line in out.splitlines() if planted.url in line)
    code, out, _ = shell("models", "check", "away")
    assert (code, "cannot be reached" in out) == (1, True)
    assert shell("models", "remove", "away")[0] == 0


def test_an_address_where_nobody_listens_is_not_added(shell: Shell) -> None:
    code, _, err = shell("models", "add", "away", f"http://127.0.0.1:{free_port()}/v1")
    assert code == 2
    assert "cannot be reached" in err
    assert "away" not in [row["name"] for row in rows(shell("models", "--json")[1]) if row["kind"] == "remote"]


def test_what_should_be_known_of_a_model_is_said_when_it_is_added_and_checked(
    shell: Shell, tmp_path: Path, model_files: Any
) -> None:
    base = model_files.base(tmp_path / "sees", vision_config={"model_type": "siglip_vision_model"})
    code, _, err = shell("models", "add", "sees", str(base))
    assert code == 0
    assert "Madang uses it for text alone" in err
    assert "Madang uses it for text alone" in shell("models", "check", "sees")[1]


def test_thinking_is_switched_and_told_apart(shell: Shell) -> None:
    own = '\n[[variant]]\nname = "deep"\nkind = "base"\nsource = "fake:thinker"\n'
    file = shell.settings.catalogue
    file.write_text(file.read_text(encoding="utf-8") + own, encoding="utf-8")
    asked = ("chat", "--json", "-v", "deep", "q", "--set", "temperature=0")
    found = [rows(shell(*asked, *more)[1])[0] for more in ((), ("--think", "off"), ("--think-budget", "4"))]
    assert [row["text"] for row in found] == ["deep heard: q"] * 3
    assert [row["reasoning_content"] for row in found] == ["They said: q", None, "The"]
    assert [row["reasoning_tokens"] for row in found][1:] == [0, 4]
    code, out, _ = shell("chat", "--json", "-v", "base", "-v", "deep", "--think", "on", "q")
    assert code == 1
    assert "cannot be told to think" in rows(out)[0]["error"]
    assert rows(out)[1]["reasoning_content"] == "They said: q"
    code, _, err = shell("chat", "-v", "deep", "--think", "onn", "q")
    assert (code, "Did you mean on?" in err) == (2, True)


def test_a_base_that_is_missing_is_not_what_is_being_added(shell: Shell, tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "lora")
    code, _, err = shell("models", "add", "x:mine", str(adapter), "--base", "x")
    assert code == 2
    assert "no variant named 'x'" in err
    assert "x:mine?" not in err


def test_a_gguf_that_is_called_a_base_is_added_as_what_it_is(shell: Shell, tmp_path: Path, model_files: Any) -> None:
    gguf = model_files.gguf(tmp_path / "x.gguf")
    assert shell("models", "add", "q4", str(gguf), "--kind", "base")[0] == 0
    assert {row["name"]: row["kind"] for row in rows(shell("models", "--json")[1])}["q4"] == "gguf"
