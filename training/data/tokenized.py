"""Tokenized rows on disk: one Arrow stream a split, written once, read by every process of a run. No torch here."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.system.atomic import replacing
from playground.template import in_bulk
from training.data.encoder import Encoder
from training.data.examples import Example
from training.data.tokenizing import Tokens
from training.methods import Kind

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 512
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "preference": ("prompt_ids", "chosen_ids", "rejected_ids"),
    "rated": ("prompt_ids", "completion_ids"),
    "prompt": ("prompt_ids",),
}
"""Token ids of a row, for each kind that is no single sequence."""


def write(path: Path, examples: Sequence[Example], encoder: Encoder) -> int:
    """Tokenize and write; return how many rows came of it (a template that rewrites turns makes one for each answer).

    Columns: input_ids and labels [tokens], or those of COLUMNS, int32; label, of rated rows; of prompts what the reward
    is given as JSON, `told` and `columns`; row, the number in its source.
    """
    import pyarrow as pa

    kind = examples[0].kind if examples else "text"
    names = COLUMNS.get(kind, ("input_ids", "labels"))
    more = {"rated": [("label", pa.bool_())], "prompt": [("told", pa.string()), ("columns", pa.string())]}
    said = more.get(kind, [])
    schema = pa.schema([*((name, pa.list_(pa.int32())) for name in names), *said, ("row", pa.int64())])
    written = 0
    with replacing(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, len(examples), AT_ONCE):
            batch = examples[start : start + AT_ONCE]
            with in_bulk():
                rows = list(_apart(batch, encoder) if kind in COLUMNS else _tokens(batch, encoder))
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            written += len(rows)
    return written


def read(path: Path) -> "pa.Table":
    """Return all rows, mapped and not copied."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def cut(table: "pa.Table", max_length: int) -> "pa.Table":
    """Cut rows at a length; drop those of which no answer is left."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in ("input_ids", "labels"):
        shorter = pc.list_slice(table[name], 0, max_length)
        table = table.set_column(table.column_names.index(name), name, shorter.cast(pa.list_(pa.int32())))
    learnt = [any(label >= 0 for label in labels.as_py()) for labels in table["labels"]]
    return table.filter(pa.array(learnt, pa.bool_()))


def cut_pairs(table: "pa.Table", max_length: int) -> "pa.Table":
    """Keep preferences and rated answers whose prompt leaves room for an answer; the answers are cut in a batch."""
    import pyarrow as pa

    fits = [len(prompt) < max_length for prompt in table["prompt_ids"]]
    return table.filter(pa.array(fits, pa.bool_()))


def shuffled(table: "pa.Table", seed: int) -> "pa.Table":
    """Return the rows in another order, always the same for a seed."""
    import numpy as np

    return table.take(np.random.default_rng(seed).permutation(len(table)))


def with_neighbours(table: "pa.Table", batch: int) -> "pa.Table":
    """Add KL_completion_ids, as TRL's KTO trainer does: in each batch, every prompt gets the answer of the row before.

    A row that would be alone in the last batch gets that of the batch before, where TRL gives it its own.
    """
    import numpy as np

    places = np.arange(len(table))
    ends = np.minimum(places - places % batch + batch, len(table)) - 1
    before = np.where((places % batch == 0) & (ends > places), ends, np.maximum(places - 1, 0))
    return table.append_column("KL_completion_ids", table["completion_ids"].take(before))


def with_row_of_each_token(table: "pa.Table") -> "pa.Table":
    """Put `rows` [tokens] in the place of `row`, which packing would lose."""
    import pyarrow as pa

    rows = [[number.as_py()] * len(ids) for number, ids in zip(table["row"], table["input_ids"], strict=True)]
    return table.drop_columns(["row"]).append_column("rows", pa.array(rows, pa.list_(pa.int64())))


def _tokens(examples: Iterable[Example], encoder: Encoder) -> Iterator[dict[str, Any]]:
    rendered = [(example.row, text) for example in examples for text in encoder.render(example)]
    encoded: list[Tokens] = encoder.encode([text for _, text in rendered])
    for (row, _), tokens in zip(rendered, encoded, strict=True):
        yield {"input_ids": tokens.ids, "labels": tokens.labels, "row": row}


def _apart(examples: Iterable[Example], encoder: Encoder) -> Iterator[dict[str, Any]]:
    for example in examples:
        if example.kind == "prompt":
            told = example.text or [{"role": turn.role, "content": turn.content} for turn in example.turns]
            asked = encoder.encode(encoder.render(example))[0].ids
            said = {"told": json.dumps(told, ensure_ascii=False), "columns": example.columns}
            yield {"prompt_ids": asked, **said, "row": example.row}
            continue
        rated = example.kind == "rated"
        ids = encoder.rated(example) if rated else encoder.pair(example)
        yield dict(zip(COLUMNS[example.kind], ids, strict=True)) | {"label": example.good, "row": example.row}
