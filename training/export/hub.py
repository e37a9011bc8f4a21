"""An export onto the Hub: private unless asked, only the files that belong there, and the token shown to nobody."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, cast

from playground.catalogue.variants import HUB_ID
from playground.errors import ConfigError, HubError
from playground.system.atomic import remove
from training.export import tokenizer
from training.export.hub_errors import explained, refusal
from training.export.plan import Kind

PAPERS = ("README.md", "LICENSE*", "NOTICE*")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
FILES: dict[Kind, tuple[str, ...]] = {
    "adapter": ("adapter_config.json", "adapter_model.safetensors", *tokenizer.FILES, *PAPERS),
    "merged": (*WEIGHTS, *tokenizer.FILES, *PAPERS),
    "gguf": ("*.gguf", "Modelfile*", *PAPERS),
    "gptq": (*WEIGHTS, *tokenizer.FILES, *PAPERS),
}
"""All that is ever uploaded, by kind; files at the top of the folder alone."""
NEEDED: dict[Kind, str] = {"gguf": "*.gguf", "adapter": "adapter_model.safetensors"}
NEVER = (".*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.log", "*.part")
READ = ("README.md", "*config.json", "Modelfile*")
"""Text that may hold a path of this machine or a secret."""
SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
FRESH = {".gitattributes"}
"""What a repository holds that was made and never filled: an upload that broke off goes on there."""


class Api(Protocol):
    """The seam: what is used of huggingface_hub's HfApi."""

    def whoami(self, *, token: str) -> dict[str, Any]:
        """`name`, `orgs`, and under `auth` what the token may do."""
        ...

    def repo_info(self, repo_id: str, *, token: str) -> Any:
        """`private` and `siblings`, each with `rfilename`."""
        ...

    def create_repo(self, repo_id: str, *, token: str, private: bool, exist_ok: bool) -> Any:
        """Make a model repository."""
        ...

    def upload_folder(self, **options: Any) -> Any:
        """Upload in one commit."""
        ...


def push(  # noqa: PLR0913 - what an upload can be asked
    folder: Path,
    repo: str,
    kind: Kind,
    private: bool = True,
    token: str | None = None,
    api: Api | None = None,
    *,
    replace: bool = False,
    names: Sequence[str] | None = None,
    changed: Mapping[str, str] | None = None,
) -> str:
    """Upload an export's folder; the address. HubError for all that the Hub or the network does; `replace` an existing.

    Without `token` the environment's or the Hub's own login is taken. An empty repository counts as one begun here.
    Of the folder's files only `names` go up, if given; those in `changed` with that text instead of their own.
    """
    changed = changed or {}
    picked = [name for name in chosen(folder, kind, changed) if names is None or name in names or name in changed]
    _check_text(folder, picked, changed)
    secret = token or _login()
    with explained(repo), _staged(folder, picked, changed) as staged:
        check_name(repo)
        used = api or _real_api()
        existed = _existing(used, repo, secret, private, replace)
        if not existed:
            used.create_repo(repo, token=secret, private=private, exist_ok=False)
        used.upload_folder(
            repo_id=repo,
            folder_path=staged,
            token=secret,
            allow_patterns=[_literal(name) for name in picked],
            delete_patterns=list(FILES[kind][: -len(PAPERS)]) if existed and kind != "gguf" else None,
            commit_message=f"Upload {kind} with Madang",
        )
    return address(repo)


def check(  # noqa: PLR0913 - the same as push is asked
    repos: Sequence[str],
    private: bool = True,
    token: str | None = None,
    api: Api | None = None,
    *,
    replace: bool = False,
    needs: str | None = None,
) -> None:
    """Refuse in seconds what uploads would be refused for after the whole build. Changes nothing on the Hub.

    `needs`: a model there without which nobody can load what is uploaded.
    """
    for repo in repos:
        check_name(repo)
    secret = token or _login()
    used = api or _real_api()
    me: Mapping[str, Any] = {}
    for repo in repos:
        with explained(repo, "asked for"):
            me = me or used.whoami(token=secret)  # once: the Hub counts these
            _check_owner(repo, me)
            _existing(used, repo, secret, private, replace)
    if needs:
        with explained(needs, "asked for"):
            _check_there(used, needs, secret)


def address(repo: str) -> str:
    """Return where it can be seen."""
    return f"https://huggingface.co/{repo}"


def check_name(repo: str) -> None:
    """Refuse what cannot be a repository's name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, and not in its __all__

    with suppress(HFValidationError):
        validate_repo_id(repo)
        if HUB_ID.fullmatch(repo):
            return
    raise HubError(f"{repo!r} is no name for a repository.", "It looks like owner/name.")


@contextmanager
def _staged(folder: Path, names: list[str], changed: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folder itself, or one inside it where the changed files stand among links to the others."""
    if not changed:
        yield folder
        return
    stage = folder / ".push"
    remove(stage)
    stage.mkdir()
    try:
        for name in names:
            if name in changed:
                (stage / name).write_text(changed[name], encoding="utf-8")
            else:
                _link(folder / name, stage / name)
        yield stage
    finally:
        remove(stage)


def _link(file: Path, place: Path) -> None:
    """Link a file under another name; copy it where the disk knows no links."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _check_there(api: Api, repo: str, token: str) -> None:
    """Refuse an adapter whose base is not on the Hub; one that asks for terms to be accepted is."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        api.repo_info(repo, token=token)
    except GatedRepoError:
        return
    except RepositoryNotFoundError:
        raise HubError(
            f"The adapter's base, {repo}, is not on the Hub.", "Publish it first, or name the one it is: --base."
        ) from None


def _check_owner(repo: str, me: Mapping[str, Any]) -> None:
    """Refuse a token that can only read, and an owner that is neither the token's user nor an organization of theirs.

    What a fine-grained token may do is not listed for certain: only one that writes nowhere is refused.
    """
    token = (me.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")
    if role == "read" or (role == "fineGrained" and "repo.write" not in json.dumps(token.get("fineGrained"))):
        raise refusal(repo, 403)
    names = [str(row["name"]) for row in (me, *(me.get("orgs") or ())) if row.get("name")]
    if names and repo.partition("/")[0].lower() not in [name.lower() for name in names]:
        raise HubError(
            f"The Hub's token may not write to {repo}: it belongs to {names[0]}.", f"Its owner is {' or '.join(names)}."
        )


def chosen(folder: Path, kind: Kind, more: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of files to upload, `more` among them; ConfigError where there is no such export."""
    if kind not in FILES:
        raise ConfigError(f"{kind!r} is no kind of export.", f"Choose one of: {', '.join(FILES)}.")
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    plain = [file.name for file in files if file.is_file() and not file.is_symlink()]
    plain = sorted({*plain, *(more or {})})
    names = [name for name in plain if _matches(name, FILES[kind]) and not _matches(name, NEVER)]
    if not any(fnmatchcase(name, NEEDED.get(kind, "model*.safetensors")) for name in names):
        raise ConfigError(f"{folder} holds no {kind} export.", "Export first, then push the folder that it names.")
    return names


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _literal(name: str) -> str:
    """Return a pattern for just this name."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _check_text(folder: Path, names: list[str], changed: Mapping[str, str]) -> None:
    home = str(Path.home()).rstrip("/\\")
    for name in (name for name in names if _matches(name, READ)):
        text = changed[name] if name in changed else (folder / name).read_text(encoding="utf-8", errors="replace")
        if SECRET.search(text):
            raise HubError(f"{name} holds what looks like a Hub token.", "Take it out, and revoke it on the Hub.")
        if home and re.search(re.escape(home) + r"[/\\]", text):
            raise HubError(
                f"{name} names a folder of this machine.", "Write the base's Hub id in its place, then push again."
            )


def _login() -> str:
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise HubError("There is no Hub token.", "Run `hf auth login`, or set HF_TOKEN to a token that may write.")
    return found


def _real_api() -> Api:
    from huggingface_hub import HfApi

    return cast(Api, HfApi())


def _existing(api: Api, repo: str, token: str, private: bool, replace: bool) -> bool:
    """Return whether the repository is there and may be written to; HubError where it may not."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(repo, token=token)
    except RepositoryNotFoundError as error:
        if getattr(error.response, "status_code", 404) == 401:
            raise
        return False
    if private and not info.private:
        raise HubError(
            f"{repo} exists and is public, and this upload is private.",
            "Name another, or say that it may be public: --public.",
        )
    held = {file.rfilename for file in info.siblings or ()}
    if held - FRESH and not replace:
        raise HubError(
            f"{repo} exists already, with {len(held - FRESH)} files.", "Name another, or have it replaced: --replace."
        )
    return True
