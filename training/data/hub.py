"""Data sets of the Hub, through the library `datasets`: no code of theirs is run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from playground.errors import HubError


def load(repo: str, split: str, limit: int | None) -> Sequence[dict[str, Any]]:
    """The rows of one split; with `limit` only the first ones are fetched."""
    from datasets import load_dataset

    with _explained(repo, split):
        if limit is not None:
            return list(islice(load_dataset(repo, split=split, streaming=True), limit))
        return list(load_dataset(repo, split=split))


@contextmanager
def _explained(repo: str, split: str) -> Iterator[None]:
    """The errors of `datasets` as sentences with a remedy."""
    import httpx
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except DatasetNotFoundError as error:
        raise _not_found(repo, str(error)) from error
    except ValueError as error:  # a split or a configuration that is not there
        said = str(error).splitlines()[0]
        raise HubError(f"The split {split!r} of {repo} cannot be read: {said}", "Name another with --split.") from error
    except (DatasetsError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubError(f"{repo} cannot be read as a data set: {said}", "Download its files and name one.") from error
    except (httpx.HTTPError, HfHubHTTPError, ConnectionError, OSError) as error:
        raise HubError(
            f"The Hub cannot be reached for {repo} ({type(error).__name__}).",
            "Check the network, or name a file on this machine: those work without it.",
        ) from error


def _not_found(repo: str, said: str) -> HubError:
    if "gated" in said:
        return HubError(
            f"{repo} is gated: its authors ask you to accept a licence first.",
            f"Accept it at https://huggingface.co/datasets/{repo}, then run `hf auth login` or set HF_TOKEN.",
        )
    return HubError(
        f"The Hub has no data set {repo!r} within reach: it is misspelt, private, or this machine is offline.",
        "Check the spelling and the network; for a private one run `hf auth login` or set HF_TOKEN.",
    )
