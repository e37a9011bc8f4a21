"""The words on the screen: both languages say the same things, and nothing is said in vain."""

import re
from pathlib import Path
from typing import get_args

import gradio as gr
import pytest

from playground.catalogue import remarks, suggested
from playground.catalogue.discovery import found
from playground.escape import Markup
from playground.page.components import Components
from playground.page.words import LOCALES, both, examples, words
from playground.presets import presets
from playground.system import jobs
from playground.traits import Notice
from playground.ui import controls, history_list, models, models_rows
from playground.wording import LANGUAGES
from tests.places import ROOT

FOLDERS = [ROOT / "playground" / name for name in ("page", "ui")]
FIELDS = re.compile(r"{(\w+)}")


def test_both_languages_have_the_same_keys() -> None:
    assert set(words("ko")) == set(words("en"))


@pytest.mark.parametrize("key", words("en"))
def test_both_languages_fill_in_the_same_values(key: str) -> None:
    assert sorted(FIELDS.findall(words("ko")[key])) == sorted(FIELDS.findall(words("en")[key]))


def keys_made_of_parts() -> set[str]:
    """Keys that no source holds whole, because part of them is a name from elsewhere."""
    kinds = models.FIELDS
    sliders = [f"controls.{name}" for name in controls.RANGES]
    return (
        {f"preset.{name}" for name in presets()}
        | {f"kind.{kind}" for kind in (*kinds, "merged", "gptq", "quantized")}
        | {f"chat.empty_{kind}" for kind in kinds}
        | {f"answer.{step}" for step in ("queued", "waiting", "downloading", "loading", "reading")}
        | {f"answer.{stat}" for stat in ("first_token", "speed", "length", "memory", "dtype", "seed")}
        | {f"answer.{notice}" for notice in get_args(Notice)}
        | {f"history.{form}" for form in history_list.FORMATS}
        | {f"chat.{way}" for way in ("earlier", "later")}
        | {f"models.{column}" for column in models_rows.COLUMNS}
        | {f"found.{place}" for place in found.PLACES}
        | {f"suggest.{group}" for group in suggested.GROUPS}
        | {f"fetch.state_{state}" for state in get_args(jobs.State)}
        | {f"find.{name}" for name in ("here", "hub")}
        | {f"find.{name}{more}" for name in ("folder", "words", "look", "search") for more in ("", "_hint")}
        | {f"find.{name}_todo" for name in ("nothing", "none")}
        | {key for slider in sliders for key in (slider, f"{slider}_info")}
    )


def test_every_key_is_used() -> None:
    files = [
        *(path for folder in (*FOLDERS, Path(found.__file__).parent) for path in folder.glob("*.py")),
        Path(remarks.__file__),
    ]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    quoted = set(re.findall(r"""["']([a-z_0-9.]+)["']""", source))
    named = {f"{section}.{name}" for section in ("chat", "add", "models", "problem", "controls") for name in quoted}
    named |= {f"{name}_hint" for name in named if name.startswith("problem.")}
    labels = {key for key in named | quoted if key.startswith(("add.", "controls."))}
    named |= {f"{key}_{more}" for key in labels for more in ("info", "hint")}  # a component takes them by itself
    assert set(words("en")) - quoted - named - keys_made_of_parts() == set()


def test_no_text_is_empty_or_the_same_key_twice() -> None:
    for language in LANGUAGES:
        assert all(text.strip() for text in words(language).values())


def test_korean_is_written_in_korean() -> None:
    same = {key for key, text in words("ko").items() if text == words("en")[key] and key not in NAMES}
    assert same == set()


NAMES = {"kind.gguf", "kind.gptq", "controls.top_p", "controls.top_k", "controls.min_p", "models.here"}
NAMES |= {
    "add.name_hint",
    "add.url_hint",
    "add.key_env_hint",
    "find.folder_hint",
    "find.words_hint",
    "found.ollama",
    "found.lm_studio",
    "found.fault",
}


def test_values_are_escaped_and_markup_is_not() -> None:
    assert "&lt;b&gt;" in both("answer.queued", detail="<b>")
    assert "<b>" in both("answer.queued", detail=Markup("<b>"))


def test_a_switch_says_every_component_anew() -> None:
    components = Components()
    spoken = {"factual": "preset.factual"}
    with gr.Blocks():
        button = components.make(gr.Button, "chat.send")
        radio = components.make(gr.Radio, "preset.label", spoken=spoken, value="factual")
    korean = components.switched("ko")
    assert korean[button]["value"] == words("ko")["chat.send"]
    assert korean[radio]["choices"] == [(words("ko")["preset.factual"], "factual")]
    assert components.switched("fr")[button]["value"] == words("en")["chat.send"]


def test_one_key_gives_label_info_and_placeholder() -> None:
    components = Components()
    with gr.Blocks():
        box = components.make(gr.Textbox, "add.url")
        bare = components.make(gr.Textbox, "chat.ask", show_label=False)
    english = components.switched("en")
    keys = {"label": "add.url", "info": "add.url_info", "placeholder": "add.url_hint"}
    assert {prop: english[box].get(prop) for prop in keys} == {prop: words("en")[key] for prop, key in keys.items()}
    assert english[bare]["placeholder"] == words("en")["chat.ask"]
    assert "label" not in english[bare]


def test_an_unknown_key_is_refused_at_building() -> None:
    with pytest.raises(KeyError):
        Components().make(gr.Button, "chat.sned")


def test_another_wing_brings_its_own_words(tmp_path: Path) -> None:
    for language, text in {"ko": "훈련", "en": "Train"}.items():
        (tmp_path / f"{language}.toml").write_text(f'[tab]\ntrain = "{text}"\n', encoding="utf-8")
    components = Components("ko", [tmp_path])
    with gr.Blocks():
        button = components.make(gr.Button, "tab.train")
    assert components.switched("ko")[button]["value"] == "훈련"
    assert components.i18n.translations_dict["en"]["tab.train"] == "훈련"  # a set language is everybody's
    with pytest.raises(ValueError, match="again"):
        Components("auto", [LOCALES])


def test_there_are_examples_in_both_languages() -> None:
    korean = [question for question in examples() if re.search("[가-힣]", question)]
    assert 3 <= len(examples()) <= 4
    assert 0 < len(korean) < len(examples())
