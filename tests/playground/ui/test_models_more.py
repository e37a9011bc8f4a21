"""Where models come from, on the page: to begin with, this machine, the Hub; each added at one press."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.hub import HubFile
from playground.catalogue.hub_search import HubModel
from playground.catalogue.suggested import GROUPS, suggestions
from playground.compare import Playground
from playground.errors import HubError
from playground.settings import Settings
from playground.system import jobs
from playground.ui import models_finding, models_getting
from playground.ui.page import build
from tests.playground.machine import Machine
from tests.waiting import ended

GIB = 2**30
FOUND = [
    HubModel("owner/small", "base", 10**8, 2 * 10**8, "apache-2.0", False, 5000),
    HubModel("owner/<b>large", "base", 10**15, 2 * 10**15, "own", True),
    HubModel("owner/gguf", "gguf", 10**9, 0, "mit"),
    HubModel("owner/lora", "adapter", base="owner/small"),
]


class SearchingHub:
    """A hub of a few models, none of them here."""

    described: Path | None = None
    down = False

    def search(self, query: str) -> list[HubModel]:
        if self.down:
            raise HubError(f"The Hub cannot be reached for {query}.", "Check the network.")
        return FOUND if query == "owner" else []

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        if patterns is not None:
            return [HubFile("a-Q4.gguf", GIB, False), HubFile("mmproj-a.gguf", GIB, False)]
        return [HubFile("model.safetensors", 3 * GIB, False)]

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        return None

    def fetch_folder(self, repo: str, revision: str | None, progress: Any) -> Path:
        raise AssertionError("the page's own process downloads nothing")

    def fetch_plan(self, repo: str, revision: str | None, progress: Any) -> tuple[Path, int]:
        assert self.described is not None
        return self.described, 3 * GIB

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Any) -> Path:
        raise AssertionError("the page's own process downloads nothing")


@pytest.fixture
def hub() -> SearchingHub:
    return SearchingHub()


@pytest.fixture
def playground(settings: Settings, hub: SearchingHub) -> Iterator[Playground]:
    playground = Playground(settings, hub=hub)
    yield playground
    for job in jobs.listed(settings):
        jobs.cancel(job)
    playground.close()


def test_what_is_on_this_machine_is_added_at_one_press(playground: Playground, machine: Machine) -> None:
    machine.pulled("m:1", {"model": machine.raw_gguf(), "template": b"x"})
    machine.pulled("cloud:1", {"license": b"MIT"})
    shown = models_getting.look(playground, None)
    assert shown.count('data-action="offer"') == 1
    for said in (
        "Ollama&#x27;s own template is not used",
        "runs in Ollama&#x27;s cloud",
        "GGUF 안의 템플릿을 사용합니다",
    ):
        assert said in shown
    chosen = shown.partition('data-name="')[2].partition('"')[0]
    done = models_getting.add_offer(playground, None, chosen)
    assert (done.good, "m:1" in playground.catalogue.names) == (True, True)
    assert 'data-action="offer"' not in models_getting.look(playground, "")
    gone = models_getting.add_offer(playground, "", "nothing")
    assert (gone.good, "not there any more" in gone.html) == (False, True)


def test_an_empty_machine_and_a_wrong_folder_say_what_to_do(playground: Playground, machine: Machine) -> None:
    assert "Name another folder above" in models_getting.look(playground, "")
    assert "is no folder" in models_getting.look(playground, "/nowhere/at/all")


def test_names_of_files_are_text(playground: Playground, machine: Machine, tmp_path: Path, model_files: Any) -> None:
    model_files.gguf(tmp_path / "mine" / "<img src=x onerror=alert(1)>.gguf")
    assert "<img" not in models_getting.look(playground, str(tmp_path / "mine"))


def test_many_are_cut_and_said(
    playground: Playground, machine: Machine, tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_finding, "MOST_OFFERS", 2)
    for number in range(5):
        model_files.gguf(tmp_path / "mine" / f"{number}.gguf")
    shown = models_getting.look(playground, str(tmp_path / "mine"))
    assert (shown.count('data-action="offer"'), "3 more" in shown) == (2, True)


def test_a_search_tells_size_licence_gates_and_what_fits(playground: Playground) -> None:
    shown = models_getting.search(playground, " owner ")
    for said in ("0.1B", "200 MB", "apache-2.0", "fits this machine", "too large here", "licence to accept", "5,000"):
        assert said in shown
    assert "<b>large" not in shown
    assert (shown.count('data-action="get"'), shown.count('data-action="files"')) == (2, 1)
    assert "nothing that runs here" in models_getting.search(playground, "nobody")
    assert models_getting.search(playground, None) == ""


def test_a_hub_out_of_reach_is_said(playground: Playground, hub: SearchingHub) -> None:
    hub.down = True
    assert "cannot be reached" in models_getting.search(playground, "owner")


def test_the_files_of_a_repository_are_offered_but_projectors(playground: Playground) -> None:
    shown = models_getting.files(playground, "owner/gguf")
    assert "a-Q4.gguf" in shown
    assert "mmproj" not in shown
    assert "1.07 GB" in shown


def test_the_strip_shows_every_model_to_begin_with(playground: Playground) -> None:
    shown = models_finding.suggested(playground, ["Qwen/Qwen3-0.6B"])
    assert shown.count("<article>") == len(suggestions())
    assert shown.count('data-action="get"') == len(suggestions()) - 1
    assert {group for one in suggestions() for group in one.groups} == set(GROUPS)
    assert all(one.seen.startswith("https://") for one in suggestions())


def test_a_model_of_the_hub_is_added_and_comes_as_a_job(
    playground: Playground, settings: Settings, hub: SearchingHub, tmp_path: Path, model_files: Any
) -> None:
    hub.described = model_files.base(tmp_path / "described")
    command = [
        sys.executable,
        "-c",
        "import sys; print('error: The Hub went away.', 'hint: Again.', sep=chr(10)); sys.exit(2)",
    ]
    done = models_getting.get(playground, command, "owner/small")
    assert (done.good, "in the background" in done.html) == (True, True)
    assert "small" in playground.catalogue.names
    (job,) = jobs.listed(settings, models_finding.KIND)
    assert job.command[len(command) :] == (
        *("--data", str(settings.data), "models", "fetch", "small"),
        *("--progress", str(job.folder / "progress.json")),
    )
    again = models_getting.get(playground, command, "owner/gguf\na-Q4.gguf")
    assert again.good
    assert playground.catalogue.get("a-Q4").model_dump()["file"] == "a-Q4.gguf"


def test_a_download_that_stopped_goes_on_at_one_press(playground: Playground, settings: Settings) -> None:
    fails = [sys.executable, "-c", "import sys; print('error: The Hub went away.'); sys.exit(2)"]
    models_getting.start(playground, fails, "hub")
    ended(settings, jobs.listed(settings)[0])
    shown = models_finding.downloads(settings)
    assert "The Hub went away." in shown
    (old,) = jobs.listed(settings, models_finding.KIND)
    assert f'data-action="resume" data-name="{old.id}"' in shown
    works = [sys.executable, "-c", "pass"]
    assert models_getting.act(playground, works, "resume", old.id).good
    ended(settings, jobs.listed(settings)[0])
    shown = models_finding.downloads(settings)
    assert 'data-ask="hub"' in shown
    assert shown.count("<section") == 1  # of a variant its newest


@pytest.mark.parametrize("chosen", ["", "../../etc", "owner", "owner/name/more", "http://x/y"])
def test_what_is_no_hub_id_is_refused(playground: Playground, chosen: str) -> None:
    before = playground.catalogue.names
    assert not models_getting.get(playground, (), chosen).good
    assert playground.catalogue.names == before


def test_a_download_is_never_of_a_folder(playground: Playground, tmp_path: Path, model_files: Any) -> None:
    done = models_getting.get(playground, (), str(model_files.base(tmp_path / "base")))
    assert (done.good, "is not a Hub id" in done.html) == (False, True)


def test_a_space_has_none_of_it(tmp_path: Path) -> None:
    names = ("suggested", "here-found", "find-folder", "find-words", "hub-found", "hub-files", "fetch-jobs")
    found = {}
    for mode in ("local", "space"):
        playground = Playground(Settings(data=tmp_path, mode=mode))
        page = build(playground, playground.settings)
        ids = {str(one["props"].get("elem_id")) for one in page.get_config_file()["components"]}
        found[mode] = [name for name in names if name in ids]
        playground.close()
    assert found == {"local": list(names), "space": []}
