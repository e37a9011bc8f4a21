"""Whether a model's rows can be answered in slots: it is tried, and held against the model's own pass."""

import logging
import time
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from playground.backends.carriers import Carrier
from playground.backends.slot_rows import SlotRows
from playground.backends.torch_rows import TorchRow
from playground.backends.tree import replaceable, window_of
from playground.presets import Sampling
from playground.protocol import RowRequest

LOG = logging.getLogger(__name__)
FAR = {torch.float32: 1e-3}
FAR_16_BIT = 0.05
"""Of a distribution's logits, how far they may be from the model's own: beyond is another computation."""
PATIENCE_S = 0.08
"""How long those who are answered may wait while others' prompts are read."""
TRIED = 2048
LEAST, MOST = 512, 8192


def slots(carrier: Carrier, adapters: Any, context: int, most: int) -> SlotRows | None:
    """Return slots for the rows of a model and its plain adapters; None where another way computes what it means."""
    model = carrier.model
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    if window_of(model) or not replaceable(model) or len(places) > 1:
        return None
    on_card = model.device.type == "cuda"
    try:
        made = SlotRows(model, adapters, context, most, captures=on_card)
        if not _agrees(made, carrier):
            LOG.warning("rows are not answered in slots: this model computes something else there")
            return None
        if on_card:
            made.portion = _portion(made, carrier, context)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
        LOG.warning("rows are not answered in slots: %s", error)
        return None
    return made


@torch.inference_mode()
def _agrees(made: SlotRows, carrier: Carrier) -> bool:
    """Return whether a prompt read in portions, and two tokens after it, give the model's own logits."""
    row = _row(carrier, 40, 3)
    made.portion = 16
    if not made.join(row):
        return False
    try:
        while not made.read([row])[0]:
            pass
        made.draw([row])
        for _ in range(2):
            token = made.draw([row])[0]
            if not isinstance(token, int) or not _near(row):
                return False
            row.tokens.append(token)
    finally:
        made.leave(row)
        made.portion = LEAST
    return True


def _near(row: TorchRow) -> bool:
    """Return whether the logits of a row are those of its model's own pass.

    They may be as far as the model's own cache brings them, thrice: kernels for quantized weights differ by the rows.
    """
    model = row.carrier.model
    fed = torch.tensor([[*row.prompt, *row.tokens]], device=model.device)
    own = model(input_ids=fed, use_cache=False, logits_to_keep=1).logits[0, -1].float()
    cache = DynamicCache(config=model.config)
    model(input_ids=fed[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    other = model(input_ids=fed[:, -1:], past_key_values=cache, use_cache=True).logits[0, -1].float()
    noise, far = ((found.float() - own).norm() / own.norm() for found in (other, row.logits))
    return bool(far <= max(FAR.get(row.logits.dtype, FAR_16_BIT), 3 * float(noise)))


def _portion(made: SlotRows, carrier: Carrier, context: int) -> int:
    """Return how many tokens of prompts the card reads while others may wait, a power of two."""
    made.portion = TRIED
    took = TRIED / LEAST
    for _ in range(2):  # the first time kernels are loaded
        row = _row(carrier, min(TRIED, context - 8), 1)
        if not made.join(row):
            return LEAST
        torch.cuda.synchronize()
        begun = time.monotonic()
        made.read([row])
        torch.cuda.synchronize()
        took = (time.monotonic() - begun) / len(row.prompt)
        made.leave(row)
    fits = int(PATIENCE_S / took)
    return max(LEAST, min(1 << (max(fits, 1).bit_length() - 1), MOST))


def _row(carrier: Carrier, tokens: int, answer: int) -> TorchRow:
    """Return a row with a prompt of so many tokens, for an answer of so many."""
    size = int(carrier.model.config.get_text_config().vocab_size)
    sampling = Sampling(temperature=1.0, seed=1, max_new_tokens=answer)
    request = RowRequest(variant="", ids=(0,), sampling=sampling, top_logprobs=0)
    return TorchRow(request, [number * 7 % size for number in range(1, tokens + 1)], carrier=carrier)
