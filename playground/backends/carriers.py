"""Which model and which tokenizer the rows of an adapter run through, in a worker that has one base loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from playground.backends.adapted import adapted, sharing
from playground.backends.lora import Adapters
from playground.backends.torch_tokenizer import TorchTokenizer
from playground.backends.tree import TreeScorer
from playground.catalogue.adapters import AdapterFiles, read
from playground.catalogue.grown import needed
from playground.errors import VariantError, refused
from playground.wording import worded

Stamp = tuple[tuple[str, int, int], ...]
"""The names of files, when each was last written (ns), and its bytes."""


@dataclass(frozen=True, eq=False)
class Carrier:
    """What rows run through. `routed`: the adapter that the base's own layers add for them, if it is plain LoRA."""

    model: Any
    tokenizer: TorchTokenizer
    scorer: TreeScorer
    routed: str | None = None


class Carriers:
    """The base and its adapters, each made at its first row."""

    def __init__(self, folder: str, model: Any, dtype: torch.dtype, new_scorer: Callable[[Any], TreeScorer]) -> None:
        self._folder, self._model, self._new_scorer = Path(folder), model, new_scorer
        self._bare = sharing(model)
        """The base's modules, before plain adapters hook into them."""
        self.plain = Adapters(model, dtype)
        self.routing = self.plain.routing
        self._rows = int(model.config.get_text_config().vocab_size)
        tokenizer = TorchTokenizer(self._folder, self._rows, _ends(model))
        self.base = Carrier(model, tokenizer, new_scorer(model))
        self._made: dict[str, tuple[Stamp, Carrier]] = {}

    def of(self, adapter: str | None) -> Carrier:
        """Return the carrier of an adapter's folder as its files are now, or the base's.

        Rows keep the one that they began with. Raises VariantError where it cannot be made.
        """
        if not adapter:
            return self.base
        stamp = _stamp(Path(adapter))
        if adapter not in self._made or self._made[adapter][0] != stamp:
            self._made[adapter] = stamp, self._carrier(read(Path(adapter)), f"{adapter} {hash(stamp)}")
        return self._made[adapter][1]

    def _carrier(self, adapter: AdapterFiles, name: str) -> Carrier:
        rows = needed(adapter, self._rows)
        tokenizer = self._tokenizer(adapter, rows)
        as_it_is = rows == self._rows
        if as_it_is and not adapter.beyond_plain and self.plain.attach(adapter, name):
            return Carrier(self._model, tokenizer, self.base.scorer, name)
        model = adapted(self._bare, adapter, None if as_it_is else rows)
        return Carrier(model, tokenizer, self._new_scorer(model))

    def _tokenizer(self, adapter: AdapterFiles, rows: int) -> TorchTokenizer:
        """Return the tokenizer that rows of an adapter read with: its own where it brings one, as its template."""
        ours = own = self.base.tokenizer
        if adapter.has_tokenizer and not adapter.same_tokenizer(self._folder):
            own = _loaded(adapter, rows, _ends(self._model))
        if own.words > max(rows, ours.words if rows == self._rows else 0) and own.rowless(rows):
            raise VariantError(
                worded("carriers.tokenizer_adapter_tokens", adapter=adapter.folder.name, words=own.words, rows=rows),
            )
        return own.with_template(adapter.template or ours.vocabulary().template, rows)


def _stamp(folder: Path) -> Stamp:
    """Return what tells that a file of a folder was written anew; nothing of one that is gone."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()] if folder.is_dir() else []
    return tuple((file.name, told.st_mtime_ns, told.st_size) for file in files for told in [file.stat()])


def _loaded(adapter: AdapterFiles, rows: int, ends: frozenset[int]) -> TorchTokenizer:
    """Return the tokenizer that an adapter brings; VariantError where transformers cannot load it."""
    try:
        return TorchTokenizer(adapter.folder, rows, ends)
    except (ValueError, LookupError, OSError, ImportError, TypeError, AttributeError) as error:
        if told := refused(error):
            raise told from error
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise VariantError(
            worded("carriers.transformers_cannot_load", adapter=adapter.folder.name, said=said),
        ) from error


def _ends(model: Any) -> frozenset[int]:
    """Return the tokens that end an answer as the model's own config says."""
    own = model.generation_config.eos_token_id
    return frozenset(own if isinstance(own, list) else [] if own is None else [own])
