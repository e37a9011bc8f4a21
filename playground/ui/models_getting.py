"""What Models does with models that were found: adds them, and downloads those of the Hub as jobs."""

from collections.abc import Sequence
from pathlib import Path

from playground.catalogue.discovery.found import HUB, Found
from playground.catalogue.discovery.offers import free, look_around, named, offers
from playground.catalogue.variants import HUB_ID, Remote
from playground.compare import Playground
from playground.errors import MadangError, UnknownNameError, VariantError
from playground.page.components import Command
from playground.page.words import both, fault
from playground.system import jobs
from playground.system.progress import OPTION
from playground.ui import models, models_finding
from playground.ui.models import Outcome
from playground.wording import worded
from playground.workers import adding
from playground.workers.loadable import Loader

GIVEN_UP = ("failed", "cancelled", "lost")


def sources(playground: Playground) -> list[str]:
    """Return where the catalogue's variants come from; none where it cannot be read (the table says why)."""
    try:
        return [variant.source for variant in playground.catalogue if not isinstance(variant, Remote)]
    except MadangError:
        return []


def look(playground: Playground, folder: str | None) -> str:
    """Return what is on this machine, or what is wrong with the folder."""
    try:
        seen = look_around((folder or "").strip())
        return models_finding.offered(seen, offers(seen, playground.catalogue))
    except MadangError as error:
        return fault("problem.page", error)


def add_offer(playground: Playground, folder: str | None, chosen: str) -> Outcome:
    """Add what is on this machine under that id; what vanished meanwhile is an error."""

    def added() -> Outcome:
        by_id = {offer.found.id: offer for offer in offers(look_around((folder or "").strip()), playground.catalogue)}
        if chosen not in by_id:
            raise VariantError(worded("models_getting.model_not_any"))
        loader = Loader(playground.settings, playground.catalogue, playground.hub)
        done = adding.add(loader, by_id[chosen])
        said = [_verdict("models.added_alone", name=one.name) for one in done]
        said += [_verdict(note.key, "verdict remark", **note.values) for one in done for note in one.remarks]
        return Outcome("".join(said))

    return models.tried(added)


def _verdict(key: str, kind: str = "verdict", **values: object) -> str:
    return f'<p class="{kind}" role="status">{both(key, **values)}</p>'


def search(playground: Playground, query: str | None) -> str:
    """Return what the Hub finds; nothing where nothing is asked."""
    query = (query or "").strip()
    if not query:
        return ""
    try:
        found = playground.hub.search(query)
    except MadangError as error:
        return fault("problem.page", error)
    return models_finding.results(playground.settings, found, sources(playground))


def files(playground: Playground, repo: str) -> str:
    """Return the GGUF files of a repository."""
    try:
        return models_finding.files(playground.settings, repo, playground.hub.files(repo, None, ["*.gguf"]))
    except MadangError as error:
        return fault("problem.page", error)


def get(playground: Playground, command: Command, chosen: str) -> Outcome:
    """Add a model of the Hub, named `owner/name` or with a GGUF's name below it, and start its download."""
    repo, _, file = chosen.partition("\n")

    def got() -> Outcome:
        if not HUB_ID.fullmatch(repo):
            raise VariantError(worded("models_getting.not_hub_id", repo=repo))
        kind = "gguf" if file else "base"
        title = f"{repo}/{file}" if file else repo
        name = named(Found(HUB, title, kind, repo, Path(), 0, file=file or None))
        name = free(name, playground.catalogue.names)
        row = {"kind": kind, "name": name, "source": repo} | ({"file": file} if file else {})
        done = models.add_row(playground, row, "coming" if command else "to_download")
        start(playground, command, name)
        return done

    return models.tried(got)


def start(playground: Playground, command: Command, name: str) -> None:
    """Start the download of a variant as a job, unless one runs; without a command it comes when it is asked."""
    running = [job for job in jobs.listed(playground.settings, models_finding.KIND) if job.active]
    if not command or name in [job.about.get("variant") for job in running]:
        return
    made: Sequence[str] = [*command, "--data", str(playground.settings.data), "models", "fetch", name, *OPTION]
    jobs.start(playground.settings, models_finding.KIND, made, {"variant": name})


def act(playground: Playground, command: Command, action: str, name: str) -> Outcome:
    """Pause a download, or let one that stopped go on; an unknown action does nothing."""

    def acted() -> Outcome:
        job = jobs.find(playground.settings, name)
        if action == "pause":
            jobs.cancel(job)
        elif job.state in GIVEN_UP:
            variant = str(job.about.get("variant"))
            if variant not in playground.catalogue.names:
                raise UnknownNameError(worded("noun.variant"), variant, playground.catalogue.names)
            start(playground, command, variant)
        return Outcome("")

    return models.tried(acted) if action in ("pause", "resume") else Outcome("")
