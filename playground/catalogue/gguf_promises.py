"""What the header of a GGUF model promises, held against its own tensors and lists, and its weights against zeros.

llama.cpp asserts part of this and ends its process where it does not hold, reads past a list's end or loads a file
that answers with noise. Asked of a whole model: the fields of its first file, the tensors of all.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from playground.catalogue.gguf_header import AGAIN, TEXT, Header
from playground.errors import VariantError
from playground.wording import worded

NUMBERS = ("block_count", "embedding_length", "context_length")
"""The numbers without which llama.cpp loads no model; each stands below the architecture's name."""
MOST = {"block_count": 512, "embedding_length": 2**20, "context_length": 2**31 - 1}
TOKENS, EMBEDDINGS = "tokenizer.ggml.tokens", "token_embd.weight"
PER_TOKEN = {"tokenizer.ggml.scores": (6,), "tokenizer.ggml.token_type": (4, 5)}
"""Lists with a number for each token, and the types that llama.cpp reads them as."""
LOOKS, LOOKED, LEAST = 128, 64, 2**16
"""Places at which weights are looked at, bytes at each, and how many there must be for it to say anything."""
IN_A_ROW = LOOKS // 16
"""Places with nothing but zeros, one after another, that no model has: rows of tokens that are not used take fewer."""


def check(path: Path, header: Header, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a model whose header contradicts itself. `shapes`: the tensors of all its files."""
    wrong = _numbers(header) or _vocabulary(header) or _embeddings(header, shapes) or _layers(header, shapes)
    if wrong:
        raise VariantError(worded("gguf_promises.damaged", path=path, wrong=wrong), worded(AGAIN))


def check_weights(path: Path, header: Header) -> None:
    """Refuse a file with a long stretch of zeros where weights should be, as a broken-off download leaves it.

    It looks at a hundred places, whatever the size, once for each version of a file.
    """
    stretch = _stretch(path, header.begin, header.size, path.stat().st_mtime_ns)
    if stretch:
        raise VariantError(
            worded("gguf_promises.holds_nothing_but", path=path, stretch=stretch[0], stretch2=stretch[1]),
            worded(AGAIN),
        )


@lru_cache(maxsize=64)
def _stretch(path: Path, begin: int, end: int, changed: int) -> tuple[int, int] | None:
    """Return from where to where weights are zeros for longer than a model's are; None where they are not."""
    if end - begin < LEAST:
        return None
    step = (end - begin - LOOKED) // (LOOKS - 1)
    with path.open("rb") as file:
        empty = [not any(_at(file, begin + number * step)) for number in range(LOOKS)]
    for is_empty, group in groupby(range(LOOKS), key=empty.__getitem__):
        run = list(group)
        if is_empty and len(run) >= IN_A_ROW:
            return begin + run[0] * step, begin + run[-1] * step
    return None


def _at(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.read(LOOKED)


def _numbers(header: Header) -> str:
    """Return what is wrong with the numbers that every model has; empty where they can be."""
    architecture = header.text("general.architecture")
    for name in NUMBERS:
        key = f"{architecture}.{name}"
        if key not in header.fields:
            return worded("gguf_promises.lacks_key", key=key)
        found = header.fields[key]
        if not isinstance(found, int) or isinstance(found, bool) or not 0 < found <= MOST[name]:
            return worded("gguf_promises.key_is", key=key, found=found)
    heads, groups = (header.fields.get(f"{architecture}.attention.head_count{end}") for end in ("", "_kv"))
    if isinstance(heads, int) and isinstance(groups, int) and groups and heads % groups:
        return worded("gguf_promises.heads", heads=heads, groups=groups)
    return ""


def _vocabulary(header: Header) -> str:
    """Return what is wrong with the lists of its vocabulary; empty where they belong together."""
    kind, tokens = header.lists.get(TOKENS, (None, 0))
    if kind != TEXT or not tokens:
        return worded("gguf_promises.lacks_vocabulary", tokens=TOKENS)
    for key, kinds in PER_TOKEN.items():
        kind, count = header.lists.get(key, (kinds[0], tokens))
        if kind not in kinds or count != tokens:
            return worded("gguf_promises.entries", key=key, count=count, kind=kind, tokens=tokens)
    merges = "tokenizer.ggml.merges"
    kind, count = header.lists.get(merges, (None, 0))
    if (header.text("tokenizer.ggml.model") == "gpt2" or merges in header.lists) and kind != TEXT:
        return worded("gguf_promises.lacks_merges", merges=merges)
    return ""


def _embeddings(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return what is wrong with the embeddings beside the vocabulary; empty where they fit."""
    if EMBEDDINGS not in shapes:
        return worded("gguf_promises.no_embeddings", embeddings=EMBEDDINGS)
    width = header.number(f"{header.text('general.architecture')}.embedding_length")
    wanted = (width, header.lists[TOKENS][1])
    if shapes[EMBEDDINGS] != wanted:
        said = " x ".join(map(str, shapes[EMBEDDINGS]))
        return worded(
            "gguf_promises.width_differs", embeddings=EMBEDDINGS, said=said, wanted=wanted[0], wanted2=wanted[1]
        )
    return ""


def _layers(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return which layers are missing or too many; empty where all are there. The last ones may only predict ahead.

    Where each layer has its own numbers of heads and of neurons, some may have neither, as those that Nemotron skips.
    """
    architecture = header.text("general.architecture")
    count = header.number(f"{architecture}.block_count")
    numbers = {name.split(".")[1] for name in shapes if name.startswith("blk.")}
    found = {int(number) for number in numbers if number.isdecimal() and len(number) < 9}
    needed = set(range(count - header.number(f"{architecture}.nextn_predict_layers")))
    skips = all(f"{architecture}.{name}" in header.lists for name in ("attention.head_count", "feed_forward_length"))
    if (missing := sorted(needed - found)) and not skips:
        return worded("gguf_promises.lacks_layers", missing_count=len(missing), count=count, missing=missing[0])
    if beyond := sorted(found - set(range(count))):
        return worded("gguf_promises.more_layers", beyond=beyond[0], count=count)
    return ""
