"""Models that could be added, as HTML: to begin with, on this machine, on the Hub, and downloads under way."""

from collections.abc import Iterable, Sequence

from playground.catalogue import gguf_files
from playground.catalogue.discovery.found import PLACES, Look
from playground.catalogue.discovery.offers import Offer
from playground.catalogue.hub import HubFile
from playground.catalogue.hub_search import HubModel
from playground.catalogue.remarks import Remark
from playground.catalogue.suggested import suggestions
from playground.compare import Playground
from playground.escape import escaped
from playground.page import cards
from playground.page.markup import button, chat_button
from playground.page.number import disk_size, size
from playground.page.words import both, texts
from playground.settings import Settings
from playground.system import hardware, jobs
from playground.system.jobs import Job
from playground.workers import memory
from playground.workers.fetched import Fetched

KIND = "fetch"
MOST_OFFERS, MOST_JOBS = 60, 4


def suggested(playground: Playground, listed: Iterable[str]) -> str:
    """Return the models to begin with as a strip of cards; `listed`: sources that the catalogue has."""
    settings, here = playground.settings, set(listed)
    room = hardware.vram_budget(settings) or hardware.ram_budget(settings)
    shown = "".join(
        f'<article><b>{_short(one.source)}</b><p class="chips">{"".join(_chip(f"suggest.{g}") for g in one.groups)}</p>'
        f"<p>{_facts(settings, 'base', one.weights, _about(one.download), one.licence, one.gated)}</p>"
        f"<footer>{_get(one.source, one.source in here)}</footer></article>"
        for one in suggestions()
    )
    lead = both("suggest.lead", memory=size(room))
    return f'<h3>{both("suggest.heading")}</h3><p class="soft">{lead}</p><div class="strip" tabindex="0">{shown}</div>'


def _about(count: int) -> str:
    """Return bytes that were counted from a round number of weights."""
    return f"~{count / 1e9:.1f} GB"


def _short(source: str) -> str:
    owner, _, name = source.rpartition("/")
    return f"<small>{escaped(owner)}</small>{escaped(name)}"


def _chip(key: str) -> str:
    return f'<span class="badge">{both(key)}</span>'


def _get(source: str, listed: bool) -> str:
    return _listed() if listed else button("get", source, both("find.get"), "go")


def _listed() -> str:
    return f'<span class="state on">{both("find.listed")}</span>'


def _facts(settings: Settings, kind: str, parameters: int, size: str, licence: str, gated: bool) -> str:
    """Return size, licence and what else the Hub says, and whether this machine holds the model."""
    shown = [escaped(part) for part in (f"{parameters / 1e9:.1f}B" if parameters else "", size, licence) if part]
    marks = [f'<em class="warn">{both("find.gated")}</em>'] if gated else []
    if kind == "base":
        marks.append(_held(settings, kind, parameters, 0) if parameters else both("find.unknown"))
    return " · ".join(shown) + (f'<span class="marks">{" · ".join(marks)}</span>' if marks else "")


def _held(settings: Settings, kind: str, parameters: int, file_bytes: int) -> str:
    held = memory.fits(memory.foreseen(kind, parameters, file_bytes), settings)
    return f'<em class="{"good" if held else "warn"}">{both("find.fits" if held else "find.tight")}</em>'


def offered(look: Look, made: Sequence[Offer]) -> str:
    """Return what is on this machine: by who keeps it, each with its button; then what cannot be added and why."""
    good = [offer for offer in made if offer.obstacle is None]
    bad = [offer for offer in made if offer.obstacle]
    shown = "".join(_place(place, [one for one in good if one.found.place == place]) for place in PLACES)
    if not good:
        shown = cards.nothing(texts, "find.nothing")
    if bad:
        rows = "".join(
            f"<li><b>{escaped(one.found.title)}</b> {_remark(one.obstacle)}</li>" for one in bad[:MOST_OFFERS]
        )
        shown += f"<details><summary>{both('find.refused', count=len(bad))}</summary><ul>{rows}</ul></details>"
    return shown + "".join(f'<p class="verdict remark">{_remark(said)}</p>' for said in look.said)


def _place(place: str, here: Sequence[Offer]) -> str:
    if not here:
        return ""
    rest = len(here) - MOST_OFFERS
    more = f'<p class="soft">{both("find.more", count=f"{rest:,}")}</p>' if rest > 0 else ""
    rows = "".join(map(_offer, here[:MOST_OFFERS]))
    return f'<h4>{both(f"found.{place}")}</h4><div class="rows">{rows}</div>{more}'


def _offer(offer: Offer) -> str:
    found = offer.found
    notes = "".join(f"<small>{_remark(note)}</small>" for note in offer.notes if not offer.listed)
    press = _listed() if offer.listed else button("offer", found.id, both("find.add"))
    title = "" if found.title == offer.name else f'<small class="what">{escaped(found.title)}</small>'
    return (
        f"<div><p><b>{escaped(offer.name)}</b>{cards.badge(found.kind)}<span>{disk_size(found.size)}</span></p>"
        f"{press}<div>{title}{notes}</div></div>"
    )


def _remark(remark: Remark | None) -> str:
    return both(remark.key, **remark.values) if remark else ""


def results(settings: Settings, found: Sequence[HubModel], listed: Iterable[str]) -> str:
    """Return what a search found: its facts, and what can be done with it."""
    if not found:
        return cards.nothing(texts, "find.none")
    here = set(listed)
    return f'<div class="rows">{"".join(_result(settings, one, one.source in here) for one in found)}</div>'


def _result(settings: Settings, one: HubModel, listed: bool) -> str:
    press = _get(one.source, listed)
    if one.kind == "gguf":
        press = button("files", one.source, both("find.files"))
    if one.kind == "adapter":
        press = ""
    more = [both("find.downloads", count=f"{one.downloads:,}")] if one.downloads else []
    more += [both("find.by_hand", base=one.base or "?")] if one.kind == "adapter" else []
    told = disk_size(one.download) if one.download else ""
    facts = _facts(settings, one.kind, one.parameters, told, one.licence, one.gated)
    return (
        f"<div><p><b>{escaped(one.source)}</b>{cards.badge(one.kind)}</p>{press}"
        f"<div><small>{facts}</small><small>{' · '.join(more)}</small></div></div>"
    )


def files(settings: Settings, repo: str, found: Sequence[HubFile]) -> str:
    """Return the GGUF models of a repository, each with its size and whether this machine holds it."""
    sizes = {file.name: file.size for file in found}
    rows = []
    for first, parts in gguf_files.choices(sizes).items():
        total = sum(sizes.get(part, 0) for part in parts)
        press = button("get", f"{repo}\n{first}", both("find.get"), "go")
        facts = f"<small>{disk_size(total)} · {_held(settings, 'gguf', 0, total)}</small>"
        rows.append(f"<div><p><b>{escaped(first)}</b></p>{press}<div>{facts}</div></div>")
    return (
        f'<h4>{escaped(repo)}</h4><div class="rows">{"".join(rows)}</div>'
        if rows
        else cards.nothing(texts, "find.none")
    )


def downloads(settings: Settings) -> str:
    """Return the downloads under way and those that ended last, the newest of each variant."""
    newest: dict[str, Job] = {}
    for job in jobs.listed(settings, KIND):
        newest.setdefault(str(job.about.get("variant")), job)
    return "".join(map(_download, list(newest.values())[:MOST_JOBS]))


def _download(job: Job) -> str:
    name, now = str(job.about.get("variant")), job.progress(Fetched)
    head = cards.head(job.state, both(f"fetch.state_{job.state}"), name, (), cards.when(job, job.started))
    resume = f"<footer>{button('resume', job.id, both('fetch.resume'))}</footer>"
    if job.active:
        step = escaped(now.what) if now.what else both("fetch.starting")
        body = cards.under_way(step, now.share, (), cards.cancel(job, "pause", both("fetch.pause")))
    elif job.state == "done":
        body = f"<footer>{chat_button(name, both('fetch.ask'))}</footer>"
    elif job.state == "failed":
        body = texts.card("fetch.failed", *job.last_words()) + resume
    else:
        body = f'<p class="step">{both("fetch.kept")}</p>{resume}'
    return f'<section class="job {job.state}"><header>{head}</header>{body}</section>'
