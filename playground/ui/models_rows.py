"""The catalogue as a table: what each variant is, where it is, and how it stands. HTML out, nothing else happens."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from playground.catalogue import gguf_files
from playground.catalogue.variants import Adapter, Base, Gguf, Remote, Stored, Variant
from playground.errors import MadangError, VariantError
from playground.escape import escaped
from playground.page.cards import badge
from playground.page.number import size
from playground.page.words import both, tooltip, words
from playground.wording import LANGUAGES, filled, in_language, joined
from playground.workers.pool import Loaded

COLUMNS = ("name", "kind", "source", "place", "format", "state", "actions")
LONGEST_SOURCE = 44
Reached = Mapping[str, MadangError | None]
"""Remote variants that were asked, by name: None where the server answers, else what stood in the way."""


def table(variants: Sequence[Variant], loaded: list[Loaded], own: Collection[str], reached: Reached) -> str:
    """Return the variants with what is loaded of them; those in `own` can be removed."""
    heads = "".join(f"<th>{both(f'models.{column}')}</th>" for column in COLUMNS)
    rows = "".join(_row(variant, worker_of(variant, loaded), variant.name in own, reached) for variant in variants)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def worker_of(variant: Variant, loaded: list[Loaded]) -> Loaded | None:
    """Return the worker that a variant runs in: its own, or for an adapter its base's."""
    names = [variant.name, variant.base] if isinstance(variant, Adapter) else [variant.name]
    found = [row for name in names for row in loaded if row.spec.name == name]
    return found[0] if found else None


def _row(variant: Variant, loaded: Loaded | None, own: bool, reached: Reached) -> str:
    is_remote = isinstance(variant, Remote)
    base = getattr(variant, "base", None)
    under = f"<small>{both('models.base')}: {escaped(base)}</small>" if base else ""
    cells = {
        "name": f"<b>{escaped(variant.name)}</b>{under}",
        "kind": badge(variant.kind),
        "source": _source(variant),
        "place": _place(variant),
        "format": _format(variant, loaded),
        "state": _reached(variant.name, reached) if is_remote else state(loaded),
        "actions": _actions(variant.name, loaded is not None and not is_remote, own),
    }
    return "<tr>" + "".join(f'<td class="cell-{name}">{html}</td>' for name, html in cells.items()) + "</tr>"


def _source(variant: Variant) -> str:
    """Return where its files are; of a remote variant the address, and its model's name there."""
    source = variant.url if isinstance(variant, Remote) else variant.source
    model = f"<small>{escaped(variant.model)}</small>" if isinstance(variant, Remote) and variant.model else ""
    return f'<code title="{escaped(source)}">{escaped(_short(source))}</code>{model}'


def _short(source: str) -> str:
    """Return the end of a path, which tells models apart, from a whole folder name on; a Hub id as it is."""
    source = tilde(source)
    if len(source) <= LONGEST_SOURCE:
        return source
    end = source[-LONGEST_SOURCE:]
    return "…" + (end[end.index("/") :] if "/" in end else end)


def tilde(path: str) -> str:
    """Return a path in the home folder as people write it."""
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path


def _place(variant: Variant) -> str:
    if isinstance(variant, Remote):
        return both("models.elsewhere")
    if variant.is_fake:
        return both("models.test")
    if not variant.is_local:
        return both("models.hub")
    bytes_here = bytes_of(variant)
    return both("models.here", size=size(bytes_here)) if bytes_here else f"<em>{both('models.missing')}</em>"


def bytes_of(variant: Stored) -> int:
    """Return the bytes of a GGUF's files, or of the files right inside a folder."""
    with contextlib.suppress(OSError, VariantError):
        path = variant.path
        if isinstance(variant, Gguf):
            return sum(f.stat().st_size for f in gguf_files.shards(gguf_files.chosen(path, variant.file)))
        return sum(f.stat().st_size for f in path.iterdir() if f.is_file())
    return 0


def _format(variant: Variant, loaded: Loaded | None) -> str:
    listed = variant.dtype if isinstance(variant, Base) else ""
    parts = [escaped(loaded.info.dtype if loaded else listed)]
    if isinstance(variant, Base) and variant.load_in_4bit:
        parts.append(both("models.four_bit"))
    context = loaded.info.context if loaded else variant.context
    if context:
        parts.append(both("models.context", count=f"{context:,}"))
    return "<br>".join(part for part in parts if part)


def state(loaded: Loaded | None) -> str:
    """Return whether a variant is loaded, and the memory that it takes."""
    if loaded is None:
        return f'<span class="state">{both("models.idle")}</span>'
    memory = size(loaded.memory.ram + loaded.memory.vram)
    return f'<span class="state on">{both("models.busy" if loaded.busy else "models.loaded", memory=memory)}</span>'


def _reached(name: str, reached: Reached) -> str:
    """Return whether a remote variant's server answers; why not is in its tooltip, and Check says it at length."""
    if name not in reached:
        return f'<span class="state">{both("models.unasked")}</span>'
    error = reached[name]
    if error is None:
        return f'<span class="state on">{both("models.answers")}</span>'
    title = " · ".join(escaped(in_language(joined([error.message, error.hint]), code, "page")) for code in LANGUAGES)
    return f'<span class="state off" title="{title}">{both("models.silent")}</span>'


def _actions(name: str, loaded: bool, own: bool) -> str:
    """Return the row's buttons; models_tab.py asks before it removes."""
    offered = [*(["unload"] if loaded else []), "check", *(["remove"] if own else [])]
    questions = {code: filled(words(code)["models.confirm"], {"name": name}) for code in LANGUAGES}
    return "".join(
        f'<button type="button" class="{action}" data-action="{action}" data-name="{escaped(name)}"'
        + "".join(f' data-ask-{code}="{escaped(text)}"' for code, text in questions.items())
        + f' title="{tooltip(f"models.{action}")}">{both(f"models.{action}")}</button>'
        for action in offered
    )
