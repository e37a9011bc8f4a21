"""The language of the terminal: MADANG_LANGUAGE where it names one, else Korean where the system's locale is Korean."""

from playground.errors import ConfigError, MadangError
from playground.page.words import words
from playground.settings import Environment, load_settings
from playground.wording import Language, filled, in_language, worded


def language() -> Language:
    """Return the language that commands speak."""
    try:
        chosen = load_settings().language
    except ConfigError:  # it is about to be told
        chosen = "auto"
    if chosen != "auto":
        return chosen
    system = Environment()
    return "ko" if (system.lc_all or system.lc_messages or system.lang).lower().startswith("ko") else "en"


def told(text: str) -> str:
    """Return a message in the terminal's language; any other text as it is."""
    return in_language(text, language(), "terminal")


def fault(error: MadangError, before: str = "") -> str:
    """Return an error and its hint as one line."""
    return f"{before}{told(error.message)} {told(error.hint)}".strip()


def word(key: str, **values: object) -> str:
    """Return one of the page's own words, for where the terminal says the same."""
    return filled(words(language())[key], values)


def ending(error: MadangError) -> str:
    """Return the last lines of a command that could not do its work."""
    lines = [f"{told(worded('terminal.error'))}: {told(error.message)}"]
    lines += [f"{told(worded('terminal.hint'))}: {told(error.hint)}"] * bool(error.hint)
    return "\n".join(lines) + "\n"
