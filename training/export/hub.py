"""An export onto the Hub: private unless asked, only the files that belong there, and the token shown to nobody."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from playground.errors import ConfigError, HubError
from playground.variants import HUB_ID
from training.export.merge import TOKENIZER_FILES

Kind = Literal["adapter", "merged", "gguf", "gptq"]
PAPERS = ("README.md", "LICENSE*", "NOTICE*")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
FILES: dict[Kind, tuple[str, ...]] = {
    "adapter": ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER_FILES, *PAPERS),
    "merged": (*WEIGHTS, *TOKENIZER_FILES, *PAPERS),
    "gguf": ("*.gguf", "Modelfile*", *PAPERS),
    "gptq": (*WEIGHTS, *TOKENIZER_FILES, *PAPERS),
}
"""All that is ever uploaded, by kind; files at the top of the folder alone."""
NEEDED: dict[Kind, str] = {"gguf": "*.gguf", "adapter": "adapter_model.safetensors"}
NEVER = (".*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.log", "*.part")
READ = ("README.md", "*config.json", "Modelfile*")
"""Text that may hold a path of this machine or a secret."""
SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
FRESH = {".gitattributes"}
"""What a repository holds that was made and never filled: an upload that broke off goes on there."""
SAFE = "Local files are untouched; the same command goes on where it stopped."


class Api(Protocol):
    """The seam: what is used of huggingface_hub's HfApi."""

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
) -> str:
    """Upload an export's folder; the address. HubError for all that the Hub or the network does; `replace` an existing.

    Without `token` the environment's or the Hub's own login is taken. An empty repository counts as one begun here.
    """
    names = chosen(folder, kind)
    _check_text(folder, names)
    secret = token or _login()
    with _explained(repo):
        _check_name(repo)
        used = api or _real_api()
        existed = _existing(used, repo, secret, private, replace)
        if not existed:
            used.create_repo(repo, token=secret, private=private, exist_ok=False)
        used.upload_folder(
            repo_id=repo,
            folder_path=folder,
            token=secret,
            allow_patterns=[_literal(name) for name in names],
            delete_patterns=list(FILES[kind][: -len(PAPERS)]) if existed and kind != "gguf" else None,
            commit_message=f"Upload {kind} with Madang",
        )
    return f"https://huggingface.co/{repo}"


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, and not in its __all__

    validate_repo_id(repo)
    if not HUB_ID.fullmatch(repo):
        raise HFValidationError(repo)


def chosen(folder: Path, kind: Kind) -> list[str]:
    """Names of the files that would be uploaded; ConfigError where the folder holds no such export."""
    if kind not in FILES:
        raise ConfigError(f"{kind!r} is no kind of export.", f"Choose one of: {', '.join(FILES)}.")
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    plain = [file.name for file in files if file.is_file() and not file.is_symlink()]
    names = [name for name in plain if _matches(name, FILES[kind]) and not _matches(name, NEVER)]
    if not any(fnmatchcase(name, NEEDED.get(kind, "model*.safetensors")) for name in names):
        raise ConfigError(f"{folder} holds no {kind} export.", "Export first, then push the folder that it names.")
    return names


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _literal(name: str) -> str:
    """A pattern for just this name."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _check_text(folder: Path, names: list[str]) -> None:
    home = str(Path.home()).rstrip("/\\")
    for name in (name for name in names if _matches(name, READ)):
        text = (folder / name).read_text(encoding="utf-8", errors="replace")
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
    """Whether the repository is there and may be written to; HubError where it may not."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(repo, token=token)
    except RepositoryNotFoundError as error:
        if getattr(error.response, "status_code", 404) == 401:
            raise
        return False
    if private and not info.private:
        raise HubError(f"{repo} exists and is public, and this upload is private.", "Name another, or say public.")
    held = {file.rfilename for file in info.siblings or ()}
    if held - FRESH and not replace:
        raise HubError(f"{repo} exists already, with {len(held - FRESH)} files.", "Name another, or ask to replace it.")
    return True


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """The Hub's errors as sentences with a remedy. Its own texts, and the requests they hold, stay behind."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        raise HubError(f"{repo!r} is no name for a repository.", "It looks like owner/name.") from None
    except errors.RepositoryNotFoundError as error:
        raise _refusal(repo, error.response.status_code) from None
    except (httpx.HTTPError, errors.XetDownloadError, OSError) as error:
        response = getattr(error, "response", None)
        if response is not None:
            raise _refusal(repo, response.status_code) from None
        raise _broken(repo, error) from None
    except RuntimeError as error:  # the uploader in Rust has no other
        raise _broken(repo, error) from None


def _refusal(repo: str, status: int) -> HubError:
    if status == 401:
        return HubError(f"The Hub refused the token for {repo}.", "Run `hf auth login` again, or correct HF_TOKEN.")
    if status == 403:
        return HubError(
            f"The Hub's token may not write to {repo}.", "Make one of the type `write`, and check the owner's name."
        )
    if status == 404:
        return HubError(f"The Hub knows no owner for {repo!r}.", "Check the spelling; it looks like owner/name.")
    if status == 409:
        return HubError(f"{repo} was made or changed by someone else just now.", f"Look at it there. {SAFE}")
    if status == 429:
        return HubError(f"The Hub asks to wait: too many requests for {repo}.", f"Try in some minutes. {SAFE}")
    return HubError(f"The Hub answered {status} for {repo}.", f"Try again in a while. {SAFE}")


def _broken(repo: str, error: BaseException) -> HubError:
    if isinstance(error, OSError) and error.filename is not None:
        name = Path(str(error.filename)).name
        return HubError(f"{name} cannot be read: {error.strerror}.", "Check its permissions, then push again.")
    return HubError(
        f"The connection to the Hub broke while {repo} was uploaded ({type(error).__name__}).",
        f"Check the network. {SAFE}",
    )
