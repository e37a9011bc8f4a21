"""The wing's words on the page, Korean and English: data in training/locales."""

from pathlib import Path

from playground.errors import MadangError
from playground.page.kit import Said

LOCALES = Path(__file__).with_name("locales")
said = Said(LOCALES)
both, plainly, card, words = said.both, said.plainly, said.card, said.words


class FormError(MadangError):
    """The form is wrong; message and hint are keys of words, filled with `values`."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(words("en")[key].format(**values), words("en")[f"{key}_hint"])
        self.key, self.values = key, values


def problem(error: MadangError) -> str:
    """A fault of the form in both languages, any other error as it is; fields are called by name."""
    if not isinstance(error, FormError):
        return said.fault("train.problem", error)
    values = {k: both(f"train.{v}") if k == "field" else v for k, v in error.values.items()}
    return card("train.problem", both(error.key, **values), both(f"{error.key}_hint"))


def known(key: str) -> bool:
    """Whether there is a word for it."""
    return key in words("en")
