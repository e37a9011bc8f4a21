"""What Madang tells people, by key and fields: it crosses processes and lies in files, and is read in any language.

A text is English until somebody reads it. A wing's templates lie in its `locales/errors.<language>.toml` and are read
when its first message is made. `<key>_page` is how the page says it, where it differs: it names buttons,
and the terminal flags. `<key>_hint` is the remedy that belongs to a message.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, WrapValidator

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")
Place = Literal["page", "terminal"]
WINGS = Path(__file__).parent.parent
FORMS = {
    "을(를)": "을를",
    "은(는)": "은는",
    "이(가)": "이가",
    "과(와)": "과와",
    "(이)": ("이", ""),
    "(으)로": ("으로", "로"),
}
"""Particles as the Korean templates write them behind a field: the form behind a consonant, and behind a vowel."""
PARTICLE = re.compile(r"(\{\w+[^}]*\})([^\w\s{}]*)(" + "|".join(map(re.escape, FORMS)) + ")")
UNHEARD = re.compile(r"<[^>]*>|&\w+;|\W+")
"""What a name may hold and nobody pronounces: marks of HTML, quotes, brackets."""
CLOSED = "lmn013678"
"""Letters and digits that Korean ends with a consonant; behind any other letter it says a vowel (베이스, 테스트)."""


class Worded(str):
    """An English text that knows its key and its fields. Whatever is cut from it or joined to it is plain English."""

    key: str
    fields: dict[str, Any]

    def __new__(cls, text: str, key: str, fields: Mapping[str, Any]) -> "Worded":
        """Return the text with what it was made of."""
        made = super().__new__(cls, text)
        made.key, made.fields = key, dict(fields)
        return made

    def __getnewargs__(self) -> tuple[str, str, dict[str, Any]]:  # type: ignore[override]
        """Return what a copy is made of."""
        return str(self), self.key, self.fields


def worded(key: str, /, **fields: object) -> Worded:
    """Return the message of a key, `room.name` of this wing or `wing.room.name`; raises KeyError for an unknown one.

    Fields are numbers and texts, other messages among them; anything else is told as its text.
    """
    kept = {name: value if isinstance(value, str | int | float) else str(value) for name, value in fields.items()}
    return Worded(_templates(key, "en")[key].format(**fields), key, kept)


def joined(parts: Iterable[str], between: str = " ") -> Worded:
    """Return several messages as one."""
    fields = {str(number): part for number, part in enumerate(parts)}
    return Worded(between.join(fields.values()), "", fields | {"between": between})


def hint_of(message: str) -> str:
    """Return the remedy that belongs to a message, with the same fields; empty where it has none."""
    if not isinstance(message, Worded) or f"{message.key}_hint" not in _templates(message.key, "en"):
        return ""
    return worded(f"{message.key}_hint", **message.fields)


def in_language(text: str, language: Language, place: Place = "terminal") -> str:
    """Return a message as a language says it in that place; a text without a key as it is."""
    if not isinstance(text, Worded):
        return text
    fields = {
        name: in_language(value, language, place) if isinstance(value, str) else value
        for name, value in text.fields.items()
    }
    if not text.key:
        between = fields.pop("between", " ")
        return str(between).join(map(str, fields.values()))
    templates = _templates(text.key, language)
    template = templates.get(f"{text.key}_page") if place == "page" else None
    template = template or templates.get(text.key)
    try:
        return filled(template, fields) if template else str(text)
    except (LookupError, ValueError, TypeError):  # of another release's file: what it said in English still holds
        return str(text)


def filled(template: str, fields: Mapping[str, object]) -> str:
    """Return a template with its fields; a Korean particle behind a field takes the form that its last sound needs."""

    def chosen(found: re.Match[str]) -> str:
        field, marks, particle = found.groups()
        return field + marks + particle_for(field.format(**fields), particle)

    return PARTICLE.sub(chosen, template).format(**fields)


def particle_for(word: str, particle: str) -> str:
    """Return a particle of FORMS as it stands behind a word; both forms where nobody can tell how it is read."""
    heard = UNHEARD.sub("", word)[-2:].lower()
    last = heard[-1:]
    if "가" <= last <= "힣":
        final = (ord(last) - ord("가")) % 28
        closed, liquid = final > 0, final == 8
    elif last.isascii() and last:
        closed, liquid = last in CLOSED or heard == "ng", last in "l178"
    else:
        return particle
    behind_consonant, behind_vowel = FORMS[particle]
    return behind_vowel if not closed or (liquid and particle == "(으)로") else behind_consonant


def packed(text: str) -> object:
    """Return a text as JSON holds it: a message with its key and fields."""
    if not isinstance(text, Worded):
        return text
    fields = {name: packed(value) if isinstance(value, str) else value for name, value in text.fields.items()}
    return {"text": str(text), "key": text.key, "fields": fields}


def revived(value: Any) -> Any:
    """Return what `packed` made a text of; anything else as it is."""
    match value:
        case {"text": str(text), "key": str(key), "fields": dict(fields)}:
            return Worded(text, key, {str(name): revived(field) for name, field in fields.items()})
    return value


def _kept(value: object, read: Callable[[object], str]) -> str:
    made = revived(value)
    return made if isinstance(made, Worded) else read(value)


Wording = Annotated[str, WrapValidator(_kept), PlainSerializer(packed, return_type=Any)]
"""A field of a pydantic model that keeps a message whole, also as JSON."""


def _templates(key: str, language: Language) -> Mapping[str, str]:
    """Return the messages of the wing that a key belongs to, by key."""
    parts = key.split(".")
    return _read(parts[0] if len(parts) > 2 else "", language)


@cache
def _read(wing: str, language: Language) -> Mapping[str, str]:
    file = WINGS / (wing or "playground") / "locales" / f"errors.{language}.toml"
    sections = tomllib.loads(file.read_text(encoding="utf-8"))
    before = f"{wing}." if wing else ""
    return {f"{before}{room}.{name}": text for room, rows in sections.items() for name, text in rows.items()}
