"""Peer: transformers' own `generate`, in the dtype that Madang would choose; with an adapter, through PEFT."""

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common import serve_peer
from playground.system.hardware import cpu_has_bf16, usable_cores

torch.set_num_threads(usable_cores())
DTYPE = torch.bfloat16 if cpu_has_bf16() else torch.float32
MODEL: Any = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=DTYPE).eval()
if len(sys.argv) > 2:
    from peft import PeftModel

    MODEL = PeftModel.from_pretrained(MODEL, sys.argv[2]).eval()
TOKENIZER = AutoTokenizer.from_pretrained(sys.argv[1])


def prefill(tokens: int) -> dict[str, Any]:
    """Tokens/s of one forward pass over a prompt, logits of its last token alone."""
    ids = torch.arange(1000, 1000 + tokens)[None]
    start = time.perf_counter()
    with torch.inference_mode():
        MODEL(input_ids=ids, use_cache=False, logits_to_keep=1)
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """One timed answer with the factual preset, or one timed prefill."""
    if "prefill" in request:
        return prefill(request["prefill"])
    start = time.perf_counter()
    torch.manual_seed(7)
    messages = [{"role": "user", "content": request["prompt"]}]
    inputs = TOKENIZER.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = MODEL.generate(
        **inputs, max_new_tokens=request["tokens"], do_sample=True, temperature=0.1, top_p=0.9, top_k=0
    )
    return {"tokens": out.shape[1] - inputs["input_ids"].shape[1], "wall_s": time.perf_counter() - start}


if __name__ == "__main__":
    serve_peer(handle)
