"""GPTQ through llmcompressor, in a process of its own: 4-bit weights in groups, in the format `compressed-tensors`.

Its hyperparameters beside the group size are llmcompressor's own defaults. Parity judges what comes of it, on other
texts than these weights were calibrated on.
"""

import re
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playground.catalogue.files import read_json, safetensors_header, weight_files
from playground.errors import ConfigError, SetupError, VariantError
from playground.system.atomic import replacing
from playground.system.progress import Tell
from training.data.encoder import Encoder
from training.data.tokenized import read
from training.demo.examples import train_conversations
from training.export import tokenizer
from training.export.merge import CARRIED
from training.export.process import isolated
from training.export.watching import watched

FORMAT = "compressed-tensors"
"""What is written, as its config.json names it."""
GROUPS = (128, 64, 32)
ROWS, MAX_TOKENS = 128, 2048
"""How many rows the weights are calibrated on, and where each is cut."""
NOT_LINEAR = re.compile(r"(^|[._])(embed\w*|wte|wpe|lm_head|\w*norm\w*)\.")
WORDS = "Quantizing with GPTQ"


def quantize(
    merged: Path,
    out: Path,
    rows: Path | None,
    group: int | None = None,
    progress: Tell = lambda fraction, words: None,
) -> None:
    """Write the 16-bit model in `merged` to the folder `out` as W4A16; `out` is whole or not there.

    `rows` is a run's tokenized Arrow file; without it a fixed text of ours stands in. SetupError without llmcompressor,
    ConfigError where `group` does not divide an input width.
    """
    check_installed()
    size = group_for(widths(merged), group)
    with replacing(out) as part, tempfile.TemporaryDirectory(prefix="madang-gptq-") as folder:
        told = Path(folder) / "share"  # the process writes its share of 1 into it
        with watched(lambda: float(told.read_text(encoding="ascii")), progress, WORDS):
            isolated(_quantize_here, merged, part, rows or "", str(size), told, what=WORDS)
        method = (read_json(part / "config.json").get("quantization_config") or {}).get("quant_method")
        if method != FORMAT:
            raise VariantError(f"llmcompressor wrote {method!r} where {FORMAT} was due.", "Install madang[gptq] again.")


def check_installed() -> None:
    """Refuse, before anything long begins, where the extra is missing."""
    if find_spec("llmcompressor") is None:
        raise SetupError(
            "The package llmcompressor, which quantizes with GPTQ, is not installed.",
            "`make install EXTRAS=gptq` adds it.",
        )


def widths(folder: Path) -> list[int]:
    """Return the input width of each linear layer that would be quantized, from headers alone."""
    rows = [pair for file in weight_files(folder) for pair in safetensors_header(file).items()]
    linear = [row for name, row in rows if name.endswith(".weight") and not NOT_LINEAR.search(name)]
    return [int(row["shape"][1]) for row in linear if len(row["shape"]) == 2]


def group_for(found: list[int], group: int | None = None) -> int:
    """Return the asked group size, or the largest of GROUPS, that divides every width."""
    sizes = GROUPS if group is None else (group,)
    for size in sizes:
        if size > 0 and not any(width % size for width in found):
            return size
    fits = next((size for size in GROUPS if not any(width % size for width in found)), None)
    odd = next((width for width in sorted(found) if width % max(sizes[-1], 1)), 0)
    raise ConfigError(
        f"A GPTQ group of {sizes[-1]} does not divide {odd}, the input width of a layer.",
        f"A group of {fits} divides every width." if fits else "Export to GGUF instead: gguf:q8_0 takes any width.",
    )


CALIBRATING = ("input_ids", "prompt_ids", "chosen_ids", "completion_ids")
"""Columns of tokenized rows that make up a text, in their order."""


def rows_of(tokenized: Path) -> list[list[int]]:
    """Return the token ids of up to ROWS rows, spread over a run's file; of preferences, prompt and chosen answer."""
    table = read(tokenized)
    step = max(1, len(table) // ROWS)
    columns = [name for name in CALIBRATING if name in table.column_names]
    picked = table.select(columns).take(list(range(0, len(table), step))[:ROWS]).to_pylist()
    rows = [[token for name in columns for token in row[name]][:MAX_TOKENS] for row in picked]
    return [ids for ids in rows if ids]


def own_rows(folder: Path) -> list[list[int]]:
    """Return the demo's conversations as plain text; not playground/measure/drift.txt, which parity judges by."""
    tokenizer = Encoder(folder).tokenizer
    texts = ["\n\n".join(turn["content"] for turn in turns) for turns in train_conversations()]
    return [tokenizer.encode(text).ids[:MAX_TOKENS] for text in texts[:ROWS]]


def _quantize_here(merged: str, out: str, rows: str, group: str, told: str) -> None:
    source, target = Path(merged), Path(out)
    calibration = rows_of(Path(rows)) if rows else []
    model = _quantized(source, calibration or own_rows(source), int(group), Path(told))
    model.save_pretrained(out, save_compressed=True)
    (target / "recipe.yaml").unlink(missing_ok=True)  # it holds Python objects, and config.json says it all
    for pattern in tokenizer.FILES:  # ours alone, byte for byte
        for file in target.glob(pattern):
            file.unlink()
    tokenizer.carry(source, target, tokenizer.FILES + CARRIED)


def _quantized(source: Path, rows: list[list[int]], group: int, told: Path) -> Any:
    import torch
    from torch.utils.data import DataLoader

    modifiers, entry = import_module("llmcompressor.modifiers.gptq"), import_module("llmcompressor")
    _follow(len(widths(source)), told)
    batches = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()} for ids in rows]
    return entry.oneshot(
        model=str(source),
        processor=object(),  # rows are tokens already, and the tokenizer is carried as files
        dataset=DataLoader(batches, batch_size=None),  # type: ignore[arg-type]  # a list is a dataset
        recipe=modifiers.GPTQModifier(ignore=["lm_head"], config_groups={"group_0": _scheme(group)}),
        num_calibration_samples=len(batches),
        max_seq_length=MAX_TOKENS,
    )


def _scheme(group: int) -> dict[str, Any]:
    """Return W4A16 as llmcompressor's preset has it, with another group size."""
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": group}
    return {"targets": ["Linear"], "weights": weights}


def _follow(layers: int, told: Path) -> None:
    """Write the share of layers that llmcompressor's log says are done, since it tells in no other way."""
    done = 0

    def hear(message: Any) -> None:
        nonlocal done
        found = re.match(r"Quantizing (\d+) module", message.record["message"])
        if found:
            done += int(found[1])
            told.write_text(f"{0.05 + 0.9 * done / max(layers, 1):.3f}", encoding="ascii")

    import_module("loguru").logger.add(hear, level="INFO")
