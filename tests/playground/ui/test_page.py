"""The page as a whole: it builds, it is light, and wings can add tabs to it."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from playground.compare import Playground
from playground.page.components import Components, Tab
from playground.settings import Settings
from playground.ui.page import build, launch_options

HEAVY = ["torch", "transformers", "peft", "llama_cpp", "lm_eval", "datasets", "matplotlib"]
BUILD = f"""
import json, sys
from playground.compare import Playground
from playground.settings import Settings
from playground.ui.page import build, launch_options
settings = Settings()
build(Playground(settings), settings)
launch_options(settings)
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""


def tabs(page: gr.Blocks) -> list[str | int | None]:
    return [block.id for block in page.blocks.values() if isinstance(block, gr.Tab)]


def test_building_the_page_imports_no_engine(tmp_path: Path) -> None:
    environment = {"MADANG_DATA": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", BUILD], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_only_tabs_that_work_are_shown(playground: Playground, settings: Settings) -> None:
    assert tabs(build(playground, settings)) == ["chat", "models"]


def test_a_space_shows_chat_alone(playground: Playground, settings: Settings) -> None:
    assert tabs(build(playground, settings.model_copy(update={"mode": "space"}))) == ["chat"]


def test_a_wing_brings_its_tab_and_its_words(playground: Playground, settings: Settings, tmp_path: Path) -> None:
    for language in ("ko", "en"):
        (tmp_path / f"{language}.toml").write_text('[tab]\nextra = "Extra"\n', encoding="utf-8")
    rendered: list[Components] = []
    extra = Tab("extra", rendered.append, tmp_path)
    assert tabs(build(playground, settings, [extra])) == ["chat", "extra", "models"]
    assert len(rendered) == 1
    assert launch_options(settings, [extra])["i18n"].translations_dict["ko"]["tab.extra"] == "Extra"


def test_launch_and_mount_take_the_same_options(settings: Settings) -> None:
    options = set(launch_options(settings))
    assert options <= set(inspect.signature(gr.Blocks.launch).parameters)
    assert options <= set(inspect.signature(gr.mount_gradio_app).parameters)


@pytest.mark.parametrize("place", ["http://", "https://", "@import", "url("])
def test_style_and_script_fetch_nothing(settings: Settings, place: str) -> None:
    assert place not in launch_options(settings)["head"]


def test_the_first_picture_has_its_panes_already(playground: Playground, settings: Settings) -> None:
    page = build(playground, settings)
    columns = [block for block in page.blocks.values() if str(block.elem_id).startswith("pane-")]
    assert [column.visible for column in columns] == [True, True, True, False]


def test_a_broken_catalogue_still_gives_a_page(playground: Playground, settings: Settings) -> None:
    settings.catalogue.write_text("[[variant", encoding="utf-8")
    assert tabs(build(playground, settings)) == ["chat", "models"]
