"""The page, put together: header, tabs, and what must be told to `launch`."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware

from playground.compare import Playground
from playground.page import edge, look
from playground.page.components import Command, Components, Tab, plain
from playground.page.words import both, tooltip, words
from playground.settings import Environment, Settings, set_defaults
from playground.ui import chat, chat_tab, models_tab
from playground.ui.desk import Desk
from playground.ui.intake import Intake, upload_bytes
from playground.ui.policy import Policy
from playground.ui.running import Running
from playground.ui.sessions import Sessions, Streams
from playground.wording import LANGUAGES

SWITCH = "madang.header(element, trigger)"
CLEANING_S = (600, 3600)
"""How often Gradio's copies of uploads are looked at, and how old one grows."""
COUNTS = {"GRADIO_ANALYTICS_MAX_EVENTS": "100", "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000"}
"""Gradio keeps statistics of ten thousand calls and counts them anew after each, for a page that is switched off."""


def build(
    playground: Playground, settings: Settings, extra_tabs: Sequence[Tab] = (), command: Command = ()
) -> gr.Blocks:
    """Build the page: Chat, other wings' tabs, and Models (not in a Space). Show it with `launch_options`.

    `command` calls this program, for work in a process of its own.
    """
    components = _components(settings, extra_tabs)
    running = Running()
    set_defaults(**COUNTS)
    with gr.Blocks(
        title=_title(), analytics_enabled=False, fill_width=True, fill_height=True, delete_cache=CLEANING_S
    ) as page:
        header = plain(_header(), elem_id="madang-header", js_on_load=SWITCH)
        with gr.Tabs(elem_id="wings"):
            with components.make(gr.Tab, "tab.chat", id="chat", elem_id="tab-chat") as first:
                desk = chat_tab.render(components, playground, running)
            for tab in extra_tabs:
                with components.make(gr.Tab, f"tab.{tab.name}", id=tab.name, elem_id=f"tab-{tab.name}"):
                    tab.render(components)
            if settings.mode == "local":
                with components.make(gr.Tab, "tab.models", id="models", elem_id="tab-models"):
                    models_tab.render(components, playground, command)
        chat_tab.wire(desk)
        _wire(page, header, first, components, desk)
    assert isinstance(page, gr.Blocks)
    for event in page.fns.values():
        event.api_visibility = "private"  # those that Gradio adds by itself, too: fields whose beginning is a function
    page.queue(api_open=False)
    edge.guard(page)
    return page


def launch_options(settings: Settings, extra_tabs: Sequence[Tab] = ()) -> dict[str, Any]:
    """Return what `mounted` (or `launch`) must be told for the page to look and speak as it should."""
    return {
        "theme": look.theme(),
        "head": look.head(settings.language, _shell(extra_tabs, settings)),
        "i18n": _components(settings, extra_tabs).i18n,
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "app_kwargs": {"openapi_url": None},
        "max_file_size": max(1, upload_bytes(settings)),
        "favicon_path": str(look.HERE / "yard.svg"),
    }


def mounted(app: FastAPI, page: gr.Blocks, settings: Settings, options: dict[str, Any]) -> FastAPI:
    """Mount the page on paths that an app has no route for. Gradio's own launch would put it before the app."""
    root = Environment().gradio_root_path  # behind a proxy; `launch` reads it by itself
    gr.mount_gradio_app(app, page, path="/", show_error=False, root_path=root, **options | {"head": None})
    gradio_app = app.routes[-1].app  # type: ignore[attr-defined]
    gradio_app.state_holder = sessions = Sessions(page)
    gradio_app.add_middleware(Streams, sessions=sessions)
    gradio_app.add_middleware(Intake, settings=settings)
    gradio_app.user_middleware.append(Middleware(Policy, settings=settings, head=options["head"]))  # the innermost
    app.state.endings = [gradio_app.stop_event.set]  # or its open pages would hold up the end
    return app


def _components(settings: Settings, tabs: Sequence[Tab]) -> Components:
    return Components(settings.language, [tab.locales for tab in tabs if tab.locales])


def _wire(page: gr.Blocks, header: gr.HTML, first: gr.Tab, components: Components, desk: Desk) -> None:
    """Tie the language switch, a fresh catalogue whenever Chat comes into view, and the end of a session."""

    def speak(event: gr.EventData) -> dict[Any, Any]:
        return components.switched(str(event.language))

    def leave(request: gr.Request) -> None:
        chat.let_go(desk, request.session_hash or "")

    header.click(speak, None, list(components.all), **chat_tab.NOW)
    for trigger in (page.load, first.select):
        chat_tab.keyed(desk, trigger, chat.refresh)
    chat_tab.remembered(desk, page)
    page.unload(leave)


def _shell(extra_tabs: Sequence[Tab], settings: Settings) -> str:
    """Return what stands in the page's place until Gradio has built it: its header, the names of its tabs, its box."""
    says = _components(settings, extra_tabs).both
    names = ["chat", *(tab.name for tab in extra_tabs), *(["models"] if settings.mode == "local" else [])]
    tabs = "".join(f"<span>{says(f'tab.{name}')}</span>" for name in names)
    box = f'<p class="box">{both("chat.ask")}</p>'
    return f'<div id="shell" inert><header>{_header()}</header><nav>{tabs}</nav><i class="yard"></i>{box}</div>'


def _title() -> str:
    return " ".join(words(code)["page.title"] for code in LANGUAGES)


def _header() -> str:
    switches = "".join(
        f'<button type="button" data-language="{code}" lang="{code}">{label}</button>'
        for code, label in {"ko": "한국어", "en": "EN"}.items()
    )
    return (
        f'<div class="brand"><i class="yard"></i><h1>마당 <span>Madang</span></h1></div>'
        f'<p class="motto">{both("page.motto")}</p>'
        f'<div class="switch" role="group" aria-label="{tooltip("page.language")}">{switches}</div>'
        f'<button type="button" class="theme" aria-label="{tooltip("page.theme")}"></button>'
    )
