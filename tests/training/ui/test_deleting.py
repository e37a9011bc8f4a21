"""What can be deleted from the page, and what keeps it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Adapter
from playground.errors import MadangError
from playground.settings import Settings
from playground.system import jobs
from tests.waiting import ended
from training import recipe as recipes
from training.run import runs
from training.run.runs import Run
from training.ui import deleting, train_tab
from training.ui.train_tab import Seen
from training.words import words


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "variants.toml").write_text('[[variant]]\nname = "a"\nkind = "base"\nsource = "fake:a"\n')
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "rows <1>.jsonl").write_bytes(bytes(2048))
    return Settings(data=tmp_path)


@pytest.fixture
def run(settings: Settings) -> Run:
    row: dict[str, Any] = {"method": "sft", "model": "a", "name": "mine", "data": {"source": "rows.jsonl"}}
    made = runs.create(settings, recipes.parse(row, settings.data / "recipe.yaml"))
    made.tell(status="done", step=8, steps=8)
    return made


def refused(settings: Settings, named: str, key: str) -> bool:
    """Whether neither the question nor the deletion comes to pass, for that reason."""
    for asked in (deleting.question, deleting.delete):
        with pytest.raises(MadangError) as error:
            asked(settings, named)
        assert error.value.hint == words("en")[f"{key}_hint"]
    return True


def test_the_question_names_what_goes_and_yes_deletes_it(settings: Settings, run: Run) -> None:
    asked = train_tab.act(settings, [], "delete", f"run {run.name}", Seen(run="x"))
    assert run.name in asked.fault
    assert "KiB" in asked.fault
    assert run.folder.is_dir()
    assert train_tab.act(settings, [], "delete_no", f"run {run.name}").fault == ""
    assert run.folder.is_dir()
    assert train_tab.act(settings, [], "delete_yes", f"run {run.name}").fault == ""
    assert not run.folder.exists()
    assert refused(settings, f"run {run.name}", "delete.gone")


def test_uploads_are_listed_with_their_sizes_and_go(settings: Settings) -> None:
    html = deleting.uploads(settings)
    assert "rows &lt;1&gt;.jsonl" in html
    assert "2 KiB" in html
    deleting.delete(settings, "upload rows <1>.jsonl")
    assert deleting.uploads(settings) == ""


def test_what_a_variant_lies_in_stays(settings: Settings, run: Run) -> None:
    run.adapter.mkdir()
    variants.add(settings, Adapter(name="a:mine", source=str(run.adapter), base="a"))
    assert refused(settings, f"run {run.name}", "delete.needed")
    assert run.adapter.is_dir()


def test_with_a_broken_catalogue_everything_stays(settings: Settings, run: Run) -> None:
    settings.catalogue.write_text("[[", encoding="utf-8")
    assert refused(settings, f"run {run.name}", "delete.unknown")
    assert run.folder.is_dir()


def test_what_is_worked_on_stays(settings: Settings, run: Run) -> None:
    with run.locked():
        assert refused(settings, f"run {run.name}", "delete.busy")
    job = jobs.start(settings, "train", [sys.executable, "-c", "import time; time.sleep(60)"], {"run": run.name}, 0.5)
    assert refused(settings, f"run {run.name}", "delete.busy")
    assert refused(settings, "upload rows <1>.jsonl", "delete.busy")
    jobs.cancel(job)
    ended(settings, job)
    deleting.delete(settings, f"run {run.name}")


@pytest.mark.parametrize("name", ["", ".", "..", "../uploads", "/etc", "a/b", "nobody"])
@pytest.mark.parametrize("kind", ["run", "export", "upload", "model", ""])
def test_nothing_else_can_be_named(kind: str, name: str, settings: Settings, run: Run) -> None:
    assert refused(settings, f"{kind} {name}", "delete.gone")
    assert run.folder.is_dir()
    assert (settings.data / "uploads").is_dir()


def test_a_link_out_of_the_folder_stays(settings: Settings, tmp_path: Path, run: Run) -> None:
    (runs.folder(settings) / "linked").symlink_to(tmp_path / "uploads")
    assert refused(settings, "run linked", "delete.gone")
    assert (tmp_path / "uploads").is_dir()
