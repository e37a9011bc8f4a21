"""The events of a tab: their options, the scripts behind buttons inside HTML, and the clock that follows jobs."""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, ParamSpec

import gradio as gr
from gradio.blocks import Block

P = ParamSpec("P")
Values = Mapping[Block, Any]
"""What a handler reads: the components' values."""
Updates = dict[Block, Any]
"""What a handler writes."""
SILENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Options of every event: it draws no veil over what it changes, and stands in no public API."""
PRESSES = """
const picked = (button) => {
  const lists = button.closest("[data-picks]")?.querySelectorAll("select");
  if (!lists) return button.dataset.name;
  return JSON.stringify(Object.fromEntries([...lists].map((one) => [one.dataset.field, one.value])));
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-tab], [data-action]");
  if (!button) return;
  const { tab, ask } = button.dataset;
  if (tab && ask) window.madang.asked[tab] = ask;
  if (ask && tab === "chat") document.dispatchEvent(new CustomEvent("madang:ask", { detail: ask }));
  else if (tab) document.querySelector(`#tab-${tab}-button`)?.click();
  else trigger("click", { action: button.dataset.action, name: picked(button) });
});
"""
"""Buttons inside HTML: `data-tab` opens a tab, `data-action` and `data-name` reach the handler. Of a button inside
`data-picks` the name is what its lists hold, as JSON by `data-field`. With `data-ask` the tab
chooses that variant (Mine.coming tells it); Chat hears it as ASKED and opens its tab itself."""
ASKED = """
document.addEventListener("madang:ask", (event) => trigger("click", { name: event.detail }));
"""
"""For the element of Chat that hears which variant another tab asks for."""


def flowing(handler: Callable[P, Iterator[Updates]]) -> Callable[P, Iterator[Updates]]:
    """Return a handler of many updates whose last one changes nothing: every generator that Gradio calls is made here.

    When a generator ends Gradio sends its last update once more, over whatever others have drawn since; one that has
    yielded nothing empties every output.
    """

    @wraps(handler)
    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[Updates]:
        yield from handler(*args, **kwargs)
        yield gr.skip()

    return run


def clocked(timer: gr.Timer, busy: Callable[[], bool], shown: Callable[[], Updates]) -> Updates:
    """Return what a tab shows of its jobs, and whether its clock goes on.

    `busy` is asked first: a job that ends while `shown` is made is then told by the next tick; asked last, it would
    stand there as running for ever.
    """
    active = busy()
    return {**shown(), timer: gr.Timer(active=active)}


def in_turn(tab: str) -> dict[str, Any]:
    """Return options of events that end in `clocked`: one at a time, or an older one might stop a newer one's clock."""
    return {**SILENT, "concurrency_id": f"{tab}-jobs"}
