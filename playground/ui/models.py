"""What Models does: show the catalogue with what is loaded, check files, unload, add and remove."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from playground import variants
from playground.compare import Playground
from playground.errors import ConfigError, MadangError
from playground.loadable import Loader
from playground.ui import panes
from playground.ui.words import Markup, both, both_plain, words
from playground.variants import FAKE, Adapter, Base, Gguf, Variant
from playground.workers import Loaded

AnyVariant = Base | Adapter | Gguf
_VARIANT: TypeAdapter[AnyVariant] = TypeAdapter(Variant)
COLUMNS = ("name", "kind", "source", "place", "format", "state", "actions")
LONGEST_SOURCE = 44
FIELDS: dict[str, set[str]] = {
    "base": {"prompt_format", "context", "dtype", "load_in_4bit"},
    "adapter": {"prompt_format", "context", "base"},
    "gguf": {"prompt_format", "context", "base", "file"},
}
"""Which fields of the form belong to a kind, besides name and source."""


@dataclass(frozen=True)
class Said:
    """What an action has to say: HTML, and whether it is good news."""

    html: str
    good: bool = True


def table(playground: Playground) -> str:
    """The catalogue as a table; where it cannot be read, the reason."""
    try:
        catalogue = playground.catalogue
    except MadangError as error:
        return panes.problem(error.message, error.hint)
    loaded = playground.pool.loaded()
    own = _own_names(playground)
    heads = "".join(f"<th>{both(f'models.{column}')}</th>" for column in COLUMNS)
    rows = "".join(_row(variant, _loaded(variant, loaded), variant.name in own) for variant in catalogue)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def lead(playground: Playground) -> str:
    """Where the catalogue lives."""
    path = Markup(f"<code>{escape(_tilde(str(playground.settings.catalogue)))}</code>")
    return f"<h2>{both('models.heading')}</h2><p>{both('models.lead', path=path)}</p>"


def act(playground: Playground, action: str, name: str) -> Said:
    """One of a row's buttons; an unknown action does nothing."""
    actions = {"unload": unload, "check": check_row, "remove": remove}
    try:
        return actions[action](playground, name) if action in actions else Said("")
    except MadangError as error:
        return Said(panes.problem(error.message, error.hint), good=False)


def unload(playground: Playground, name: str) -> Said:
    """Stop the worker that the variant runs in."""
    variant = playground.catalogue.get(name)
    found = _loaded(variant, playground.pool.loaded())
    if found is not None:
        playground.pool.unload(found.spec)
    return _good("unloaded", name=name)


def check_row(playground: Playground, name: str) -> Said:
    """Check the files of a variant in the catalogue."""
    return check(playground, playground.catalogue.get(name))


def remove(playground: Playground, name: str) -> Said:
    """Take a variant out of the catalogue."""
    variants.remove(playground.settings, name)
    return _good("removed", name=name)


def check(playground: Playground, variant: AnyVariant) -> Said:
    """Look at a variant's files, here or on the Hub, and download nothing. Raises MadangError with the fault."""
    coming = _to_download(playground, variant)
    if coming:
        return _good("to_download", name=variant.name, size=panes.size(coming))
    known = [other for other in playground.catalogue if other.name != variant.name]
    catalogue = variants.Catalogue([*known, variant], playground.settings.catalogue)
    loadable = Loader(playground.settings, catalogue, playground.hub).loadable(variant)
    if loadable.why_not_shared:
        return _good("sound_own", name=variant.name, why=loadable.why_not_shared)
    return _good("sound", name=variant.name)


def check_form(playground: Playground, form: Mapping[str, Any]) -> Said:
    """Check what the form describes; nothing is written."""
    try:
        return check(playground, described(form))
    except MadangError as error:
        return Said(panes.problem(error.message, error.hint), good=False)


def add(playground: Playground, form: Mapping[str, Any]) -> Said:
    """Check what the form describes, and write it into the catalogue where it is sound."""
    try:
        variant = described(form)
        verdict = check(playground, variant)
        variants.add(playground.settings, variant)
    except MadangError as error:
        return Said(panes.problem(error.message, error.hint), good=False)
    return Said(verdict.html + _good("added", name=variant.name).html)


def described(form: Mapping[str, Any]) -> AnyVariant:
    """The variant that the form describes; raises ConfigError with every fault at once."""
    kind = str(form["kind"])
    row: dict[str, Any] = {
        "kind": kind,
        "name": _text(form["name"]) or "",
        "source": _source(_text(form["source"]) or ""),
    }
    for field in FIELDS[kind]:
        value = form[field]
        value = _text(value) if isinstance(value, str) else value
        if value not in (None, "", False):
            row[field] = int(value) if field == "context" else value
    try:
        return _VARIANT.validate_python(row)
    except ValidationError as error:
        faults = "; ".join(f"{error['loc'][-1]}: {error['msg'].lower()}" for error in error.errors())
        raise ConfigError(f"The form has faults: {faults}.", "Correct the named fields.") from error


def _text(value: object) -> str | None:
    return str(value).strip() or None if value is not None else None


def _source(source: str) -> str:
    """A path as an absolute one, so that it means the same to the catalogue; anything else stays."""
    if source.startswith(FAKE) or not source:
        return source
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() or source.startswith((".", "~", "/")) else source


def _to_download(playground: Playground, variant: AnyVariant) -> int:
    """Bytes that the first question would download; asks the Hub, downloads nothing."""
    if variant.source.startswith(FAKE) or variant.is_local:
        return 0
    file = variant.file if isinstance(variant, Gguf) else None
    patterns = [file or "*.gguf"] if isinstance(variant, Gguf) else None
    found = playground.hub.files(variant.source, variant.revision, patterns)
    if isinstance(variant, Gguf):
        from playground.hub import choose_gguf

        found = [choose_gguf(variant.source, found, file)]
    return sum(row.size for row in found if not row.cached)


def _own_names(playground: Playground) -> set[str]:
    """Names in the user's own catalogue: those that can be removed."""
    settings = playground.settings
    if not settings.catalogue.exists():
        return set()
    return {variant.name for variant in variants.read(settings.catalogue, settings)}


def _loaded(variant: AnyVariant, loaded: list[Loaded]) -> Loaded | None:
    """The worker that a variant runs in: its own, or for an adapter its base's."""
    names = [variant.name, variant.base] if isinstance(variant, Adapter) else [variant.name]
    found = [row for name in names for row in loaded if row.spec.name == name]
    return found[0] if found else None


def _row(variant: AnyVariant, loaded: Loaded | None, own: bool) -> str:
    base = getattr(variant, "base", None)
    under = f"<small>{both('models.base')}: {escape(base)}</small>" if base else ""
    cells = {
        "name": f"<b>{escape(variant.name)}</b>{under}",
        "kind": panes.badge(variant.kind),
        "source": f'<code title="{escape(variant.source, quote=True)}">{escape(_short(variant.source))}</code>',
        "place": _place(variant),
        "format": _format(variant, loaded),
        "state": _state(loaded),
        "actions": _actions(variant.name, loaded is not None, own),
    }
    return "<tr>" + "".join(f'<td class="cell-{name}">{html}</td>' for name, html in cells.items()) + "</tr>"


def _short(source: str) -> str:
    """The end of a path, which tells models apart, from a whole folder name on; a Hub id as it is."""
    source = _tilde(source)
    if len(source) <= LONGEST_SOURCE:
        return source
    end = source[-LONGEST_SOURCE:]
    return "…" + (end[end.index("/") :] if "/" in end else end)


def _tilde(path: str) -> str:
    """A path in the home folder as people write it."""
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path


def _place(variant: AnyVariant) -> str:
    if variant.source.startswith(FAKE):
        return both("models.test")
    if not variant.is_local:
        return both("models.hub")
    bytes_here = _bytes(variant.path)
    return both("models.here", size=panes.size(bytes_here)) if bytes_here else f"<em>{both('models.missing')}</em>"


def _bytes(path: Path) -> int:
    """Bytes of a file, or of the files right inside a folder."""
    with contextlib.suppress(OSError):
        return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.iterdir() if f.is_file())
    return 0


def _format(variant: AnyVariant, loaded: Loaded | None) -> str:
    listed = variant.dtype if isinstance(variant, Base) else ""
    parts = [escape(loaded.info.dtype if loaded else listed)]
    if isinstance(variant, Base) and variant.load_in_4bit:
        parts.append(both("models.four_bit"))
    context = loaded.info.context if loaded else variant.context
    if context:
        parts.append(both("models.context", count=f"{context:,}"))
    return "<br>".join(part for part in parts if part)


def _state(loaded: Loaded | None) -> str:
    if loaded is None:
        return f'<span class="state">{both("models.idle")}</span>'
    memory = panes.size(loaded.memory.ram + loaded.memory.vram)
    return f'<span class="state on">{both("models.busy" if loaded.busy else "models.loaded", memory=memory)}</span>'


def _actions(name: str, loaded: bool, own: bool) -> str:
    """The row's buttons; models.js asks before it removes."""
    offered = [*(["unload"] if loaded else []), "check", *(["remove"] if own else [])]
    asked = {code: words(code)["models.confirm"].format(name=name) for code in ("ko", "en")}
    return "".join(
        f'<button type="button" class="{action}" data-action="{action}" data-name="{escape(name, quote=True)}"'
        + "".join(f' data-ask-{code}="{escape(text, quote=True)}"' for code, text in asked.items())
        + f' title="{both_plain(f"models.{action}")}">{both(f"models.{action}")}</button>'
        for action in offered
    )


def _good(key: str, **values: object) -> Said:
    return Said(f'<p class="verdict" role="status">{both(f"models.{key}", **values)}</p>')
