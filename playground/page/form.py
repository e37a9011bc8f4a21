"""What every form needs: its values by field, a number that begins empty, and faults told in both languages."""

from collections.abc import Mapping
from typing import Any

from playground.errors import MadangError
from playground.page.words import Texts


class FormError(MadangError):
    """A fault of a form: `key` among the texts says it and `{key}_hint` the remedy, both filled with the values.

    A value called `field` is the name of a field, whose label stands in the section of the key.
    """

    def __init__(self, texts: Texts, key: str, **values: object) -> None:
        english = texts.words("en")
        super().__init__(english[key].format(**values), english[f"{key}_hint"])
        self.texts, self.key, self.values = texts, key, values

    def card(self, title: str) -> str:
        """Return the fault as a card in both languages."""
        both, values = self.texts.both, dict(self.values)
        if "field" in values:
            values["field"] = both(f"{self.key.partition('.')[0]}.{values['field']}")
        return self.texts.card(title, both(self.key, **values), both(f"{self.key}_hint"))


def problem(texts: Texts, title: str, error: MadangError) -> str:
    """Return an error as a card: a fault of the form in both languages, any other as it is."""
    return error.card(title) if isinstance(error, FormError) else texts.fault(title, error)


def no_number() -> None:
    """Give a gr.Number nothing to begin with. It has to be a function: given None, Gradio 6.31 begins at 0."""


def number(value: object) -> float:
    """Return what was typed into a field as a number; not-a-number (nan) where it is none."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def whole(value: object, least: int) -> int | None:
    """Return what was typed into a field as a whole number of `least` or more; None where it is none."""
    typed = number(value)
    return int(typed) if typed >= least and typed.is_integer() else None


def values_of(fields: Mapping[str, Any], values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return by field what Gradio gives by component."""
    return {name: values[component] for name, component in fields.items()}
