"""Models in the Hub's cache on this machine: whole models, adapters and GGUFs; what is only half there is said."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalogue import gguf_files, kinds
from playground.catalogue.discovery.folders import base_of, folder_obstacle, lacking
from playground.catalogue.discovery.found import HUB, Found, Look
from playground.catalogue.discovery.reading import gguf_obstacle, size
from playground.catalogue.remarks import Remark

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, HFCacheInfo

MAIN = "main"


def look_at(cache: Path, look: Look) -> None:
    """Add the models of the cache, one revision each: the branch main's, else the newest."""
    for seen in _scans(cache, look):
        look.said += [Remark("found.damaged_cache", {"why": str(warning)}) for warning in seen.warnings]
        for repo in sorted(seen.repos, key=lambda one: one.repo_id.lower()):
            if repo.repo_type == "model" and repo.revisions:
                newest = max(repo.revisions, key=lambda one: (MAIN in one.refs, one.last_modified))
                look.found += _repository(repo, newest)


def _scans(cache: Path, look: Look) -> Iterator["HFCacheInfo"]:
    """Yield a scan of the cache; where some of it may not be read, which ends a scan, one of each repository."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        yield scan_cache_dir(cache)
    except CacheNotFound:
        return
    except PermissionError:
        yield from _each(cache, look)
    except (OSError, ValueError) as error:
        look.refused(cache, error if isinstance(error, OSError) else NotADirectoryError(20, "Not a directory"))


def _each(cache: Path, look: Look) -> Iterator["HFCacheInfo"]:
    """Yield a scan of each repository alone, as a cache that holds a link to it; note those that cannot be read."""
    from huggingface_hub import scan_cache_dir

    try:
        repos = sorted(cache.glob("models--*")) or list(cache.iterdir())
    except OSError as error:
        look.refused(cache, error)
        return
    for repo in repos:
        with tempfile.TemporaryDirectory() as links:
            (Path(links) / repo.name).symlink_to(repo.absolute(), target_is_directory=True)
            try:
                yield scan_cache_dir(links)
            except OSError as error:
                look.refused(repo, error)


def _repository(repo: "CachedRepoInfo", revision: "CachedRevisionInfo") -> list[Found]:
    """Return what a repository holds: one whole model or adapter, or each of its GGUFs."""
    folder = revision.snapshot_path.resolve()
    names = sorted(file.file_path.relative_to(revision.snapshot_path).as_posix() for file in revision.files)
    named = None if MAIN in revision.refs else next(iter(sorted(revision.refs)), revision.commit_hash)
    about: dict[str, Any] = {"place": HUB, "source": repo.repo_id, "revision": named}
    if models := gguf_files.choices(names):
        return [_gguf(folder, first, parts, names, about) for first, parts in models.items()]
    if not {"config.json", "adapter_config.json"} & set(names):
        return []
    kind = kinds.guess(str(folder))
    obstacle = folder_obstacle(folder, kind, repo.repo_id)
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        obstacle = Remark("found.incomplete")
    base = base_of(folder) if kind == "adapter" else ""
    return [
        Found(
            title=repo.repo_id,
            kind=kind,
            path=folder,
            size=revision.size_on_disk,
            base=base,
            obstacle=obstacle,
            **about,
        )
    ]


def _gguf(folder: Path, first: str, parts: Sequence[str], names: Sequence[str], about: dict[str, Any]) -> Found:
    here = [folder / part for part in parts if part in names]
    return Found(
        title=f"{about['source']}/{first}",
        kind=kinds.guess(first),
        path=folder / first,
        size=sum(map(size, here)),
        file=first,
        obstacle=lacking(len(parts) - len(here), len(parts)) or gguf_obstacle(folder / first),
        **about,
    )
