"""How the page looks: Gradio's theme in Madang's colours, style sheet and script. Nothing comes from outside."""

import json
import re
from functools import cache
from importlib.resources import files as files_of
from pathlib import Path

from gradio.themes import Base, Color

HERE = Path(__file__).parent
CELADON = Color(
    name="celadon",
    c50="#eef4f1",
    c100="#dbe8e2",
    c200="#b9d2c7",
    c300="#93b8a9",
    c400="#6c9c8a",
    c500="#4f8271",
    c600="#3d6a5b",
    c700="#335649",
    c800="#2a453b",
    c900="#223830",
    c950="#14221d",
)
HANJI = Color(
    name="hanji",
    c50="#fbf9f4",
    c100="#f5f1e9",
    c200="#e8e2d6",
    c300="#d5cdbe",
    c400="#a89f90",
    c500="#7b7467",
    c600="#5c564c",
    c700="#45413a",
    c800="#2b2926",
    c900="#1d1c1a",
    c950="#131312",
)
KATEX = {"script": re.compile(r"katex-[\w-]+\.js"), "style": re.compile(r"katex-[\w-]+\.css")}
SANS = ["Pretendard", "-apple-system", "BlinkMacSystemFont", "Apple SD Gothic Neo", "Segoe UI", "Malgun Gothic"]
SANS += ["Noto Sans KR", "Noto Sans CJK KR", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "D2Coding", "Noto Sans Mono CJK KR", "monospace"]


def theme() -> Base:
    """Return Gradio's theme in paper, ink and celadon, with fonts that the reader's machine has."""
    made = Base(primary_hue=CELADON, secondary_hue=CELADON, neutral_hue=HANJI, font=SANS, font_mono=MONO)
    both = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--ink-soft)",
        "background_fill_primary": "var(--sheet)",
        "background_fill_secondary": "var(--paper)",
        "block_background_fill": "transparent",
        "block_label_text_color": "var(--ink-soft)",
        "block_title_text_color": "var(--ink-soft)",
        "block_info_text_color": "var(--ink-soft)",
        "border_color_primary": "var(--line)",
        "input_background_fill": "var(--sheet)",
        "input_border_color": "var(--line)",
        "input_placeholder_color": "var(--ink-faint)",
        "button_primary_background_fill": "var(--accent)",
        "button_primary_background_fill_hover": "var(--accent-strong)",
        "button_primary_text_color": "var(--on-accent)",
        "button_secondary_background_fill": "var(--sheet)",
        "button_secondary_background_fill_hover": "var(--wash)",
        "button_secondary_border_color": "var(--line)",
        "button_secondary_text_color": "var(--ink)",
        "button_cancel_background_fill": "var(--alarm)",
        "button_cancel_background_fill_hover": "var(--alarm)",
        "button_cancel_text_color": "var(--on-accent)",
        "slider_color": "var(--accent)",
        "color_accent_soft": "var(--wash)",
    }
    dark = {f"{name}_dark": value for name, value in both.items()}
    rest = {"block_border_width": "0px", "block_shadow": "none", "block_padding": "0px", "layout_gap": "12px"}
    rest |= {"input_border_width": "1px", "checkbox_border_width": "1px"}
    return made.set(**both, **dark, **rest, input_radius="10px", button_large_radius="10px")


def head(language: str, shell: str = "") -> str:
    """Return what goes into the page's head: style and script, written out so that no further request is needed.

    `shell`: HTML that stands in the page's place until Gradio has built it.
    """
    style, script = (
        "".join((HERE / f"{name}.{kind}").read_text(encoding="utf-8") for name in ("page", "drawing"))
        for kind in ("css", "js")
    )
    options = json.dumps({"language": language, "shell": shell, "katex": katex()}).replace("</", "<\\/")
    return f"<style>{style}</style><script>window.madang = {options};\n{script}</script>"


@cache
def katex() -> dict[str, str] | None:
    """Return where Gradio serves the KaTeX of its own Markdown from; None where it brings none: formulas stay TeX."""
    files = files_of("gradio") / "templates" / "frontend" / "assets"
    found = {kind: [one.name for one in files.iterdir() if KATEX[kind].fullmatch(one.name)] for kind in KATEX}
    return {kind: f"assets/{names[0]}" for kind, names in found.items()} if all(found.values()) else None
