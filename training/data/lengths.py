"""How long rows are in a model's tokens, which maximum to train with, and what it would cut."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from playground.errors import ConfigError, VariantError
from playground.template import in_bulk
from training.data.counting import WordCounter
from training.data.encoder import Encoder
from training.data.examples import Example
from training.data.faults import usable
from training.data.formats import Data
from training.data.tokenizing import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP, LEAST = 64, 128
UNBOUNDED = 10**9
"""From here on a tokenizer's model_max_length means that it knows none."""
BATCH = 512
MOST_TOKENS_A_BYTE = 3
"""Generous: a token is a byte or more, of a text that normalizing may have lengthened."""
BINS = 20


@dataclass(frozen=True, eq=False)
class Lengths:
    """Tokens of each rendered row, and the number of the data's row it comes from. Both int32 [rendered rows].

    A preference is two rendered rows, one an answer. `refused`: rows that cannot be rendered, and why.
    `context`: the model's most tokens, if its files say so.
    """

    tokens: "NDArray[np.int32]"
    rows: "NDArray[np.int32]"
    context: int | None = None
    refused: Mapping[int, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Return the tokens of one pass over the data."""
        return int(self.tokens.sum())

    @property
    def mean(self) -> float:
        """Return the mean length of a rendered row."""
        return float(self.tokens.mean())

    @property
    def median(self) -> float:
        """Return the median length of a rendered row."""
        return self.percentile(50)

    @property
    def maximum(self) -> int:
        """Return the length of the longest rendered row."""
        return int(self.tokens.max())

    def percentile(self, percent: float) -> float:
        """Return the length that `percent` of the rendered rows do not exceed."""
        import numpy as np

        return float(np.percentile(self.tokens, percent))

    @cached_property
    def recommended(self) -> int:
        """Return the 95th percentile, rounded up to a multiple of 64, at least 128, at most the model's context."""
        rounded = max(LEAST, -(-int(-(-self.percentile(95) // 1)) // STEP) * STEP)
        return min(rounded, self.context or rounded)

    def histogram(self, bins: int = BINS) -> tuple[list[int], list[int]]:
        """Return edges [bins + 1] and counts of rows [bins]; the last bin holds all beyond the 99th percentile."""
        import numpy as np

        end = max(self.percentile(99), 1)
        width = max(1, -(-int(end) // bins))
        counts, edges = np.histogram(np.minimum(self.tokens, width * bins - 1), np.arange(bins + 1) * width)
        return [int(edge) for edge in edges[:-1]] + [max(int(edges[-1]), self.maximum)], [int(n) for n in counts]

    def over(self, maximum: int) -> tuple[int, ...]:
        """Return the data's rows of which some rendered row has more tokens than `maximum`."""
        return tuple(dict.fromkeys(int(row) for row in self.rows[self.tokens > maximum]))

    def share_over(self, maximum: int) -> float:
        """Return the share of the measured rows that `maximum` cuts."""
        return len(self.over(maximum)) / max(1, len(set(self.rows.tolist())))

    def kept(self, maximum: int) -> float:
        """Return the share of all tokens that is left when every row is cut at `maximum`."""
        import numpy as np

        return float(np.minimum(self.tokens, maximum).sum() / max(1, self.total))


@in_bulk()
def measure(data: Data, encoder: Encoder) -> Lengths:
    """Measure every row that can be rendered, as training would encode it; rows with fatal faults are left out.

    Where none can be rendered, the reason of the first is raised.
    """
    import numpy as np

    counter = WordCounter(encoder)
    tokens: list[int] = []
    rows: list[int] = []
    refused: dict[int, VariantError] = {}
    texts: list[Text] = []
    for example in data.examples:
        if not usable(example) or encoder.lacks(example):
            continue
        try:
            rendered = render(encoder, example)
        except VariantError as error:
            refused[example.row] = error
            continue
        texts += rendered
        rows += [example.row] * len(rendered)
        if len(texts) >= BATCH:
            tokens += _counted(counter, encoder, texts)
            texts.clear()
    tokens += _counted(counter, encoder, texts)
    if not tokens and refused:
        raise next(iter(refused.values()))
    if not tokens:
        raise ConfigError(
            f"{data.name} has no row that can be trained on.", "`madang data check FILE --no-lengths` says why."
        )
    reasons = {row: error.message for row, error in refused.items()}
    return Lengths(np.asarray(tokens, np.int32), np.asarray(rows, np.int32), context_of(encoder), reasons)


def _counted(counter: WordCounter, encoder: Encoder, rows: list[Text]) -> list[int]:
    """Count the tokens of each row; one in which control tokens are text is encoded as training would."""
    counts = counter.count([row.text for row in rows])
    for place, row in enumerate(rows):
        if row.typed:
            counts[place] = len(encoder.encode([row])[0].ids)
    return counts


def render(encoder: Encoder, example: Example) -> list[Text]:
    """Render any example; of a preference, which becomes two rows, and of a rated one the last answer is learnt."""
    compared = example.kind in ("preference", "rated")
    return encoder.sides(example) if compared else encoder.render(example)


def wholly_cut(data: Data, encoder: Encoder, rows: Iterable[int], maximum: int) -> tuple[int, ...]:
    """Return which of these rows have nothing left to learn from when cut at `maximum`."""
    wanted = set(rows)
    return tuple(
        example.row
        for example in data.examples
        if example.row in wanted
        and not any(_begins_within(encoder, text, maximum) for text in render(encoder, example))
    )


def _begins_within(encoder: Encoder, text: Text, maximum: int) -> bool:
    """Return whether the first answer begins within `maximum` tokens; encode where its place leaves a doubt."""
    if not text.learnt:
        return False
    before = len(text.text[: text.learnt[0][0]].encode())
    if MOST_TOKENS_A_BYTE * before + encoder.added(text.text) < maximum:
        return True
    return encoder.encode([text])[0].cut(maximum).answers > 0


def context_of(encoder: Encoder) -> int | None:
    """Return the most tokens that the model takes: its config's position count, else its tokenizer's own limit."""
    config, tokenizer = (_json(encoder, name) for name in ("config.json", "tokenizer_config.json"))
    for holder in (config, config.get("text_config") or {}):
        if isinstance(most := holder.get("max_position_embeddings"), int):
            return most
    most = tokenizer.get("model_max_length")
    return int(most) if isinstance(most, int | float) and most < UNBOUNDED else None


def _json(encoder: Encoder, name: str) -> dict[str, Any]:
    try:
        content = json.loads((encoder.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
