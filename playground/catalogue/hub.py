"""The Hugging Face Hub: how large a model is, fetching it with progress, and what to do when the Hub says no.

Only safetensors, GGUF, configs and tokenizers are fetched: never pickles, never code.
"""

import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from playground.catalogue import gguf_files, hub_search
from playground.catalogue.downloads import LARGE, byte_bar, fetch_large
from playground.catalogue.hub_search import HubModel
from playground.errors import HubError, MadangError, SetupError, VariantError, refused
from playground.system.hardware import GIB
from playground.system.progress import Tell
from playground.wording import worded

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG_FILES = [
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "README.md",
]
TOKENIZER_FILES = [
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "added_tokens.json",
]
MODEL_FILES = ["*.safetensors", *CONFIG_FILES]
DUPLICATES = ["original/*", "consolidated*", "*/*.safetensors", "*.onnx"]


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; size in bytes, `cached` when it is on this machine already."""

    name: str
    size: int
    cached: bool


class Hub(Protocol):
    """What Madang asks of a hub; tests put a fake here."""

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        """Return the files that a fetch would bring, with sizes."""
        ...

    def search(self, query: str) -> list[HubModel]:
        """Return the models that a search finds."""
        ...

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        """Return a model that is whole on this machine: a folder, or the GGUF of that name; never asks the network."""
        ...

    def fetch_folder(self, repo: str, revision: str | None, progress: Tell) -> Path:
        """Fetch a model's or an adapter's files; return their folder on this machine."""
        ...

    def fetch_plan(self, repo: str, revision: str | None, progress: Tell) -> tuple[Path, int]:
        """Fetch a model's configs and tokenizer alone; return their folder and the bytes of weights still to come."""
        ...

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Tell) -> Path:
        """Fetch one model as GGUF, all its shards, and return its first file."""
        ...


class HuggingFaceHub:
    """The Hugging Face Hub, through huggingface_hub and its cache."""

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        """Return the files that a fetch would bring, with sizes; asks the Hub and downloads nothing."""
        from huggingface_hub import snapshot_download

        with _explained(repo, revision):
            plan = snapshot_download(
                repo,
                revision=revision,
                allow_patterns=patterns or MODEL_FILES + TOKENIZER_FILES,
                ignore_patterns=DUPLICATES if patterns is None else None,
                tqdm_class=byte_bar(0, repo, lambda share, what: None),  # its own would print
                dry_run=True,
            )
        assert isinstance(plan, list)
        plan.sort(key=lambda row: row.filename)  # they come as their threads end
        return [HubFile(row.filename, row.file_size or 0, not row.will_download) for row in plan]

    def search(self, query: str) -> list[HubModel]:
        """Return the models that a search finds, those that are downloaded most first."""
        with _explained(query, None):
            return hub_search.search(query)

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        """Return the folder of a model that is whole in the cache, or a GGUF with all its shards; else None."""
        from huggingface_hub import hf_hub_download

        if name is None:
            return _here(_snapshot(repo, revision, MODEL_FILES + TOKENIZER_FILES))
        here = partial(hf_hub_download, repo, revision=revision, local_files_only=True)
        cached = [_cached(partial(here, part)) for part in gguf_files.parts(name)]
        return Path(str(cached[0])) if all(cached) else None

    def fetch_folder(self, repo: str, revision: str | None, progress: Tell) -> Path:
        """Fetch a model's or an adapter's files, from the cache without the network where they are whole there."""
        if (here := self.here(repo, revision)) is not None:
            return here
        snapshot = _snapshot(repo, revision, MODEL_FILES + TOKENIZER_FILES)
        _check_repository(repo, wanted := self.files(repo, revision))
        total = _check_room(repo, wanted)
        with _explained(repo, revision):
            bar = byte_bar(total, repo, progress)
            for file in wanted:
                if not file.cached and file.size >= LARGE:
                    fetch_large(repo, file.name, revision, bar)
            return Path(str(snapshot(tqdm_class=bar)))

    def fetch_plan(self, repo: str, revision: str | None, progress: Tell) -> tuple[Path, int]:
        """Fetch configs and tokenizer alone; return their folder and the bytes of weights to come (0: none)."""
        if (here := self.here(repo, revision)) is not None:
            return here, 0
        _check_repository(repo, wanted := self.files(repo, revision))
        coming = [file for file in wanted if not file.cached]
        weights = sum(file.size for file in coming if file.name.endswith(".safetensors"))
        with _explained(repo, revision):
            bar = byte_bar(sum(file.size for file in coming) - weights, repo, progress)
            return Path(str(_snapshot(repo, revision, CONFIG_FILES + TOKENIZER_FILES)(tqdm_class=bar))), weights

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Tell) -> Path:
        """Fetch one model as GGUF, all its shards; where there are several models, the error lists them with sizes."""
        from huggingface_hub import hf_hub_download

        if name is not None and (here := self.here(repo, revision, name)) is not None:
            return here
        wanted = choose_gguf(repo, self.files(repo, revision, ["*.gguf"]), name)
        total = _check_room(repo, wanted)
        with _explained(repo, revision):
            bar = byte_bar(total, f"{repo}/{wanted[0].name}", progress)
            for file in wanted:
                if not file.cached and file.size >= LARGE:
                    fetch_large(repo, file.name, revision, bar)
            paths = [hf_hub_download(repo, file.name, revision=revision, tqdm_class=bar) for file in wanted]
            return Path(paths[0])


def choose_gguf(repo: str, found: list[HubFile], name: str | None) -> list[HubFile]:
    """Return all files of the model that is named by its first, or of the only one there is."""
    sizes = {file.name: file for file in found}
    models = gguf_files.choices(sizes)
    if name is None and len(models) == 1:
        name = next(iter(models))
    if name not in models:
        raise _not_chosen(repo, sizes, models, name)
    if missing := [part for part in models[name] if part not in sizes]:
        raise VariantError(
            worded(
                "hub.lacks_shards",
                repo=repo,
                missing_count=len(missing),
                models_count=len(models[name]),
                name=name,
                missing=", ".join(missing[:3]),
            ),
        )
    return [sizes[part] for part in models[name]]


def _not_chosen(repo: str, sizes: dict[str, HubFile], models: dict[str, list[str]], name: str | None) -> VariantError:
    """Return what to raise where no model is named, or what is named is none."""
    if name in sizes and (kind := gguf_files.beside(name)):
        return VariantError(
            worded("hub.told", repo=repo, name=name, what=worded(gguf_files.KINDS[kind][0])),
            worded(gguf_files.KINDS[kind][1]),
        )
    if name in sizes:
        first = gguf_files.parts(name)[0]
        return VariantError(worded("hub.one_shard_several", repo=repo, name=name, first=first))
    room = {model: sum(sizes[part].size for part in parts if part in sizes) for model, parts in models.items()}
    listed = ", ".join(f"{text} ({room[model] / GIB:.2f} GiB)" for model, text in gguf_files.listed(models).items())
    asked = (
        worded("hub.no_such_file", name=name)
        if name
        else worded("hub.several_ggufs")
        if models
        else worded("hub.no_gguf")
    )
    hint = worded("hub.name_file") if models else worded("hub.name_repository")
    return VariantError(worded("hub.gguf_files", repo=repo, asked=asked, listed=listed or "none"), hint)


def _check_repository(repo: str, wanted: list[HubFile]) -> None:
    if not any(file.name.endswith(".safetensors") for file in wanted):
        raise VariantError(
            worded("hub.no_safetensors", repo=repo),
        )


def _check_room(repo: str, wanted: list[HubFile]) -> int:
    """Return the bytes still to come; refuse a download that the disk cannot hold."""
    from huggingface_hub.constants import HF_HUB_CACHE

    total = sum(file.size for file in wanted if not file.cached)
    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if total > free:
        raise SetupError(
            worded("hub.takes_gib_gib", repo=repo, total=total / GIB, place=place, free=free / GIB),
        )
    return total


def _cached(look: Callable[[], Any]) -> str | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(look())
    except (LocalEntryNotFoundError, OSError):
        return None


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Callable[..., Any]:
    """Return what fetches these files of a repository into the cache and returns their folder."""
    from huggingface_hub import snapshot_download

    return partial(snapshot_download, repo, revision=revision, allow_patterns=patterns, ignore_patterns=DUPLICATES)


def _here(snapshot: Callable[..., Any]) -> Path | None:
    """Return the folder of a model that is whole in the cache, without the network; None where something is missing."""
    cached = _cached(lambda: snapshot(local_files_only=True))
    return Path(cached) if cached is not None and _whole(Path(cached)) else None


def _whole(folder: Path) -> bool:
    """Return whether a cached folder has weights: an interrupted download may have left its configs alone."""
    from playground.catalogue.files import weight_files

    try:
        return (folder / "adapter_model.safetensors").exists() or bool(weight_files(folder))
    except MadangError:
        return False


@contextmanager
def _explained(repo: str, revision: str | None) -> "Iterator[None]":
    """Raise the Hub's errors as sentences with a remedy."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise HubError(worded("hub.not_hub_id", repo=repo)) from error
    except (httpx.HTTPError, errors.XetDownloadError, OSError) as error:
        if told := refused(error):
            raise told from error
        raise _refusal(repo, revision, error) from error


def _refusal(repo: str, revision: str | None, error: BaseException) -> HubError:
    """Return what a failed request means; huggingface_hub wraps the Hub's answer into errors of its cache."""
    from huggingface_hub import errors

    wrappers = (errors.DryRunError, errors.LocalEntryNotFoundError)
    while isinstance(error, wrappers) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            worded("hub.gated_authors_ask", repo=repo),
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(worded("hub.no_revision", repo=repo, revision=revision))
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            worded("hub.hub_knows_no", repo=repo),
        )
    return _unreachable(repo, error)


def _unreachable(repo: str, error: BaseException) -> HubError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return HubError(worded("hub.hub_refused_token", repo=repo))
    if status is not None:
        return HubError(worded("hub.hub_answered", status=status, repo=repo))
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return HubError(worded("hub.cannot_written", filename=error.filename, strerror=error.strerror))
    return HubError(
        worded("hub.hub_cannot_reached", repo=repo, kind=type(error).__name__),
    )
