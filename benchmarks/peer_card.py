"""Peer: transformers' own `generate` on a card, greedy, plain or over its compiled static cache; and a bare prefill."""

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.common import serve_peer

NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
CARD = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODEL: Any = AutoModelForCausalLM.from_pretrained(
    sys.argv[1],
    dtype=torch.bfloat16,
    device_map={"": CARD},
    quantization_config=NF4 if sys.argv[2:] == ["nf4"] else None,
).eval()


def _wait() -> None:
    if CARD.type == "cuda":
        torch.cuda.synchronize()


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Time one answer of so many rows, or one pass over their prompts alone where `new` is 0."""
    rows, prompt, new = request["rows"], request["prompt"], request["new"]
    ids = torch.randint(1000, 100000, (rows, prompt), device=CARD)
    _wait()
    start = time.perf_counter()
    with torch.inference_mode():
        if not new:
            MODEL(input_ids=ids, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
        else:
            options = {"cache_implementation": "static"} if request.get("static") else {}
            MODEL.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new,
                min_new_tokens=new,
                pad_token_id=0,
                **options,
            )
    _wait()
    return {"wall_s": time.perf_counter() - start}


if __name__ == "__main__":
    serve_peer(handle)
