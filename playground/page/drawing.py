"""HTML that grows: Gradio sends what is new of it, and the browser draws that and nothing else.

Gradio's own component sends a value that changed as a whole and compares all of its elements with all that stand there.
Here it is a list: what stands around the parts of answers, then for each `data-parts` in it the list of its parts.
"""

from typing import Any

import gradio as gr

from playground.page.markdown import BEGIN, PARTS

SCRIPT = "madang.draws(element, props, watch);"


def drawn(js_on_load: str = "", **options: Any) -> gr.HTML:
    """Return HTML that drawing.js draws. Its value is HTML in which `markdown.marked` stands."""
    made = gr.HTML(html_template="", js_on_load=f"{SCRIPT}\n{js_on_load}", apply_default_css=False, **options)
    made.postprocess = pieces  # type: ignore[method-assign, assignment] # of a class of its own Gradio writes stubs into this folder
    return made


def pieces(html: str | None) -> Any:
    """Return what stands around the parts, and the parts of each answer in it, as the browser takes them."""
    runs = [run.split(BEGIN) for run in PARTS.findall(html or "")]
    return [PARTS.sub("data-parts>", html or ""), *runs]
