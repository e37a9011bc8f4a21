"""A desk over fake variants: the handlers as they run, without Gradio's server and without a browser."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from playground.compare import Playground
from playground.page.components import Components
from playground.settings import Settings
from playground.ui import chat_tab
from playground.ui.desk import Desk
from playground.ui.running import Running
from tests.fakes import EMBEDDED

CATALOGUE = (
    EMBEDDED
    + """
[[variant]]
name = "broken"
kind = "base"
source = "fake:broken"

[[variant]]
name = "hub"
kind = "base"
source = "owner/model"
"""
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder whose catalogue puts fakes in the place of the built-in variants."""
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    return Settings(data=tmp_path)


@pytest.fixture
def playground(settings: Settings) -> Iterator[Playground]:
    """A playground over the fakes; its workers end with the test."""
    playground = Playground(settings)
    yield playground
    playground.close()


@pytest.fixture
def desk(playground: Playground) -> Desk:
    """The desk of a page that is built but not served."""
    with gr.Blocks(analytics_enabled=False):
        return chat_tab.render(Components(), playground, Running())
