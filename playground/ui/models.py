"""What Models does: show the catalogue with what is loaded, check files and servers, unload, add and remove."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from playground.catalogue import kinds, variants
from playground.catalogue.remarks import Remark
from playground.catalogue.variants import Remote, Variant
from playground.compare import Playground
from playground.engines.registry import sweep
from playground.errors import ConfigError, MadangError
from playground.escape import Markup, escaped
from playground.page.number import size
from playground.page.words import both, fault
from playground.remote import reach
from playground.ui import models_rows
from playground.wording import worded
from playground.workers.loadable import Loader, remote_spec

_VARIANT: TypeAdapter[Variant] = TypeAdapter(Variant)
FIELDS: dict[str, set[str]] = {
    "base": {"source", "prompt_format", "context", "dtype", "load_in_4bit"},
    "adapter": {"source", "prompt_format", "context", "base"},
    "gguf": {"source", "prompt_format", "context", "base", "file"},
    "remote": {"url", "model", "key_env", "prompt_format", "context", "base"},
}
"""Which fields of the form belong to a kind, besides the name."""


@dataclass(frozen=True)
class Outcome:
    """How an action ended: HTML that says so, and whether it did what was asked."""

    html: str
    good: bool = True
    no_chat: bool = False
    """Whether the variant it is about cannot be asked in Chat as things stand."""


def table(playground: Playground, ask: bool = True) -> str:
    """Return the catalogue as a table, or why it cannot be read. `ask`: see whether remote variants answer."""
    try:
        sweep(playground.settings)
        catalogue = playground.catalogue
    except MadangError as error:
        return fault("problem.page", error)
    reached = reach.reached([remote_spec(row) for row in catalogue if isinstance(row, Remote)]) if ask else {}
    return models_rows.table(list(catalogue), playground.pool.loaded(), _own_names(playground), reached)


def lead(playground: Playground) -> str:
    """Return a line that says where the catalogue lives."""
    path = Markup(f"<code>{escaped(models_rows.tilde(str(playground.settings.catalogue)))}</code>")
    return f"<h2>{both('models.heading')}</h2><p>{both('models.lead', path=path)}</p>"


def act(playground: Playground, action: str, name: str) -> Outcome:
    """Do what a row's button says; an unknown action does nothing."""
    actions = {"unload": unload, "check": check_row, "remove": remove}
    return tried(lambda: actions[action](playground, name)) if action in actions else Outcome("")


def tried(action: Callable[[], Outcome]) -> Outcome:
    """Do something; an error becomes a card."""
    try:
        return action()
    except MadangError as error:
        return Outcome(fault("problem.page", error), good=False)


def unload(playground: Playground, name: str) -> Outcome:
    """Stop the worker that the variant runs in."""
    variant = playground.catalogue.get(name)
    found = models_rows.worker_of(variant, playground.pool.loaded())
    if found is not None:
        playground.pool.unload(found.spec)
    return _good("unloaded", name=name)


def check_row(playground: Playground, name: str) -> Outcome:
    """Check the files of a variant in the catalogue."""
    return check(playground, playground.catalogue.get(name))


def remove(playground: Playground, name: str) -> Outcome:
    """Take a variant out of the catalogue."""
    variants.remove(playground.settings, name)
    return _good("removed", name=name)


def check(playground: Playground, variant: Variant, adding: bool = False, coming: str = "to_download") -> Outcome:
    """Look at a variant's files, here or on the Hub; of a remote one, see what its server serves.

    Nothing is downloaded, but config and tokenizer where it is to be added. Raises MadangError with the fault.
    `coming`: the key of what is said of a download.
    """
    others = [other for other in playground.catalogue if other.name != variant.name]
    catalogue = variants.Catalogue([*others, variant], playground.settings.catalogue)
    loader = Loader(playground.settings, catalogue, playground.hub)
    if to_come := loader.download_bytes(variant):
        verdict = _good(coming, name=variant.name, size=size(to_come))
        return _remarked(verdict, loader.foreseen(variant) if adding else [])
    loadable = loader.loadable(variant)
    if loadable.spec.remote is not None:
        found = reach.look(loadable.spec)
        return _good("reached", name=variant.name, model=found.model, count=f"{found.info.context:,}")
    own = loadable.apart
    verdict = _good("sound_own", name=variant.name, why=own) if own else _good("sound", name=variant.name)
    return _remarked(verdict, loader.remarks(variant, loadable))


def _remarked(verdict: Outcome, remarks: list[Remark]) -> Outcome:
    """Return a verdict with what should be known of the variant below it."""
    said = (f'<p class="verdict remark">{both(one.key, **one.values)}</p>' for one in remarks)
    return Outcome(verdict.html + "".join(said), no_chat=any(one.no_chat for one in remarks))


def check_form(playground: Playground, form: Mapping[str, Any]) -> Outcome:
    """Check what the form describes; nothing is written."""
    return tried(lambda: check(playground, _allowed(playground, described(form))))


def add(playground: Playground, form: Mapping[str, Any]) -> Outcome:
    """Check what the form describes, and write it into the catalogue where it is sound."""

    return tried(lambda: _added(playground, _allowed(playground, described(form))))


def add_row(playground: Playground, row: Mapping[str, Any], coming: str = "to_download") -> Outcome:
    """Check a row with the catalogue's own fields, and write it; raises MadangError where it is not sound."""
    return _added(playground, variants.parse(dict(row), "the new variant"), coming)


def _added(playground: Playground, variant: Variant, coming: str = "to_download") -> Outcome:
    checked = check(playground, variant, adding=True, coming=coming)
    variants.add(playground.settings, variant)
    done = _good("added_alone" if checked.no_chat else "added", name=variant.name)
    return Outcome(checked.html + done.html, no_chat=checked.no_chat)


def _allowed(playground: Playground, variant: Variant) -> Variant:
    """Return the variant; refuse what only the machine's owner may say: addresses to ask, and where a key is sent."""
    if not isinstance(variant, Remote):
        return variant
    if playground.settings.mode != "local":
        raise ConfigError(worded("page_models.addresses_not_taken"))
    known = {(row.key_env, _host(row)) for row in playground.catalogue if isinstance(row, Remote)}
    if variant.key_env and (variant.key_env, _host(variant)) not in known:
        raise ConfigError(
            worded(
                "page_models.no_key_gone",
                key_env=variant.key_env,
                variant=_host(variant),
                variant2=variant.name,
                url=variant.url,
            ),
        )
    return variant


def _host(row: Remote) -> str:
    """Return the scheme, host and port of a row's address."""
    parts = urlsplit(row.url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def described(form: Mapping[str, Any]) -> Variant:
    """Return the variant that the form describes; raises ConfigError with every fault at once."""
    kind = kinds.corrected(str(form["kind"]), _text(form["source"]) or "")
    row: dict[str, Any] = {"kind": kind, "name": _text(form["name"]) or ""}
    row |= {"source": _source(_text(form["source"]) or "")} if "source" in FIELDS[kind] else {}
    for field in FIELDS[kind] - {"source"}:
        value = form[field]
        value = _text(value) if isinstance(value, str) else value
        if value not in (None, "", False):
            row[field] = int(value) if field == "context" else value
    try:
        return _VARIANT.validate_python(row)
    except ValidationError as error:
        faults = "; ".join(f"{error['loc'][-1]}: {error['msg'].lower()}" for error in error.errors())
        raise ConfigError(worded("page_models.form_faults", faults=faults)) from error


def _text(value: object) -> str | None:
    return str(value).strip() or None if value is not None else None


def _source(source: str) -> str:
    """Return a path as an absolute one, so that it means the same to the catalogue; anything else stays."""
    return variants.placed(source) if source else source


def _own_names(playground: Playground) -> set[str]:
    """Return the names in the user's own catalogue: those that can be removed."""
    settings = playground.settings
    if not settings.catalogue.exists():
        return set()
    return {variant.name for variant in variants.read(settings.catalogue, settings)}


def _good(key: str, **values: object) -> Outcome:
    return Outcome(f'<p class="verdict" role="status">{both(f"models.{key}", **values)}</p>')
