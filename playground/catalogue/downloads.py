"""Large files of the Hub, fetched so that an interrupted download goes on where it stopped.

huggingface_hub throws away the part of a file that came. So files from 16 MB on are fetched here, over plain HTTP with
its own client, into its cache's own blobs; its download functions then find them whole and only link to them.
"""

import hashlib
import re
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock

from playground.errors import HubError
from playground.system.hardware import GIB
from playground.system.progress import Tell
from playground.wording import worded

LARGE = 16 * 2**20
HTTP_LIMIT = 50 * 10**9
"""The Hub serves larger files through its chunk store alone: those are left to huggingface_hub, and begin anew."""
SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_large(repo: str, name: str, revision: str | None, bar: type) -> None:
    """Put one file into the cache's blobs, where no name links to it yet. Raises what huggingface_hub raises."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(repo, name, revision=revision)
    metadata = get_hf_file_metadata(url)
    if metadata.etag is None or metadata.size is None or metadata.size > HTTP_LIMIT:
        return
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    whole, part = blobs / metadata.etag, blobs / f"{metadata.etag}.madang-part"
    with FileLock(blobs / f"{metadata.etag}.madang-lock"):
        if whole.exists():
            return
        with part.open("ab") as came:
            size = came.tell() if came.tell() <= metadata.size else came.truncate(0)
            bar(unit="B").update(size)
            headers = build_hf_headers()
            http_get(url, came, resume_size=size, headers=headers, expected_size=metadata.size, tqdm_class=bar)
        _check(part, name, metadata.etag)
        part.replace(whole)


def _check(part: Path, name: str, etag: str) -> None:
    """Compare a file with its etag, which is a large file's SHA-256 on the Hub; a damaged part is thrown away."""
    if not SHA256.fullmatch(etag):
        return
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != etag:
        part.unlink()
        raise HubError(worded("downloads.came_damaged_sha", name=name))


def byte_bar(total: int, what: str, progress: Tell) -> type:
    """Return a tqdm class that reports bytes to `progress` and prints nothing.

    For one file huggingface_hub may count bytes twice, as they come from the network and as they reach the disk. The
    network's count is not shown: it comes through `update_transfer`, or to a bar of that description.
    """
    from tqdm.auto import tqdm

    lock, done = threading.Lock(), [0]

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts = options.get("unit") == "B" and options.get("desc") != "Downloading bytes"
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and n:
                with lock:
                    done[0] += int(n)
                    share = min(done[0] / total, 1.0) if total else 1.0
                progress(share, f"{what}: {share * total / GIB:.2f} of {total / GIB:.2f} GiB")
            return None

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignore bytes from the network: `update` reports them once they are on the disk."""

        def set_transfer_postfix_str(self, postfix: str = "", refresh: bool = True) -> None:
            """Show nothing."""

    progress(0.0, f"{what}: {total / GIB:.2f} GiB to download")
    return Bar
