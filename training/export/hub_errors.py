"""The Hub's errors as sentences with a remedy. Its own words may hold the token, and stay behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playground.errors import HubError, refused

SAFE = "Local files are untouched; the same command goes on where it stopped."


@contextmanager
def explained(repo: str, doing: str = "uploaded") -> Iterator[None]:
    """Raise the Hub's errors as sentences with a remedy. Its own texts, and the requests they hold, stay behind."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise refusal(repo, error.response.status_code) from None
    except (httpx.HTTPError, errors.XetDownloadError, OSError) as error:
        if told := refused(error):
            raise HubError(told.message, told.hint) from None
        response = getattr(error, "response", None)
        if response is not None:
            raise refusal(repo, response.status_code) from None
        raise _broken(repo, error, doing) from None
    except RuntimeError as error:  # the uploader in Rust has no other
        raise _broken(repo, error, doing) from None


def refusal(repo: str, status: int) -> HubError:
    """Return what an answer of the Hub means."""
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


def _broken(repo: str, error: BaseException, doing: str) -> HubError:
    if isinstance(error, OSError) and error.filename is not None:
        name = Path(str(error.filename)).name
        return HubError(f"{name} cannot be read: {error.strerror}.", "Check its permissions, then push again.")
    return HubError(
        f"The connection to the Hub broke while {repo} was {doing} ({type(error).__name__}).",
        f"Check the network. {SAFE}",
    )
