"""What is a browser's own on a tab with jobs: its form, and a name that its jobs bear. Kept in the browser itself."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from playground.page.events import SILENT, Updates
from playground.settings import Settings
from playground.system import jobs

OWNER = re.compile(r"[0-9a-f]{16}")


class Mine:
    """A tab's form as this browser left it. `tab` names it in the browser, for every page of this address."""

    def __init__(self, tab: str, fields: Mapping[str, Any]) -> None:
        self.kept = gr.JSON({}, visible=False)
        """What the browser keeps, `form` and `owner`, and `ask`: the variant for which a button has opened the tab."""
        self._tab, self._fields = tab, dict(fields)

    def coming(self, here: gr.Tab | gr.Blocks) -> Dependency:
        """Return the event of coming to the tab, or to the page that opens with it.

        `kept` then holds what the browser keeps.
        """
        script = f"() => window.madang.arrive({json.dumps(self._tab)})"
        trigger = here.select if isinstance(here, gr.Tab) else here.load
        return trigger(None, None, self.kept, js=script, **SILENT)

    def keep(self, filled: Dependency) -> None:
        """Write down what the fields hold whenever it changes, from when `filled` is through; all in the browser.

        Before that they hold what the page begins with, which must not take the place of what is kept.
        """
        tab, names = json.dumps(self._tab), json.dumps(list(self._fields))
        filled.then(None, self.kept, None, js=f"(kept) => window.madang.keep({tab}, {{ owner: kept.owner }})", **SILENT)
        changes = [field.change for field in self._fields.values()]
        script = f"(...values) => window.madang.keep({tab}, {{ form: window.madang.named({names}, values) }})"
        gr.on(changes, None, list(self._fields.values()), None, js=script, **SILENT)

    def filled(self, kept: Any, **offered: Sequence[str]) -> Updates:
        """Return updates of the fields to what was kept, as far as they still take it.

        `offered`: fields whose choices are others by now; what is no longer among them gives way to the first.
        """
        form = kept.get("form") if isinstance(kept, dict) else None
        values = form if isinstance(form, dict) else {}
        updates: Updates = {
            field: values[name]
            for name, field in self._fields.items()
            if name in values and name not in offered and _takes(field, values[name])
        }
        for name, choices in offered.items():
            value = values.get(name, self._fields[name].value)
            value = value if value in choices else next(iter(choices), None)
            updates[self._fields[name]] = gr.update(choices=list(choices), value=value)
        return updates


def asked_for(kept: Any) -> str:
    """Return the variant for which another tab's button has opened this one; empty where none has."""
    return str(kept.get("ask") or "") if isinstance(kept, dict) else ""


def owner(kept: Any) -> str:
    """Return the name that this browser's jobs bear, a new one for a browser that has none."""
    found = str(kept.get("owner")) if isinstance(kept, dict) else ""
    return found if OWNER.fullmatch(found) else secrets.token_hex(8)


def newest(settings: Settings, kind: str, owner: str) -> str:
    """Return the id of the newest job of a kind that a browser started; empty where it started none."""
    return next((job.id for job in jobs.listed(settings, kind) if owner and job.about.get("owner") == owner), "")


def _takes(field: Any, value: Any) -> bool:
    """Return whether a component takes a value, which an older page may have kept."""
    if isinstance(field, gr.Slider):
        return isinstance(value, int | float) and field.minimum <= value <= field.maximum
    if isinstance(field, gr.Number):
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if isinstance(field, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(field, gr.Textbox) or getattr(field, "allow_custom_value", False):
        several = getattr(field, "multiselect", False)
        return _are_texts(value) if several else isinstance(value, str)
    known = [choice for _, choice in getattr(field, "choices", ())]
    return all(one in known for one in value) if isinstance(value, list) else value in known


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
