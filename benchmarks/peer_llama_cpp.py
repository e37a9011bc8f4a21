"""Peer: llama-cpp-python on one GGUF file, `bare` (low-level loop, nothing but tokens) or `chat` (Llama's stream).

`flash` is `bare` with flash attention, as llama.cpp's own programs choose by themselves.
"""

import sys
import time
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as lib

from benchmarks.common import serve_peer
from playground.system.hardware import usable_cores

MODEL = llama_cpp.Llama(
    sys.argv[1],
    n_ctx=4096,
    n_batch=512,
    n_threads=usable_cores(),
    n_threads_batch=usable_cores(),
    flash_attn=sys.argv[2] == "flash",
    verbose=False,
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chat(prompt: str, tokens: int) -> list[float]:
    """Times at which text came."""
    MODEL.reset()
    messages = [{"role": "user", "content": prompt}]
    stream = MODEL.create_chat_completion(
        messages, stream=True, max_tokens=tokens, temperature=0.1, top_p=0.9, top_k=0, min_p=0, repeat_penalty=1.0
    )
    return [time.perf_counter() for part in stream if part["choices"][0]["delta"].get("content")]


def bare(prompt: str, tokens: int) -> list[float]:
    """Times at which tokens came: tokenize, one prefill, then decode and sample and nothing else."""
    text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = MODEL.tokenize(text.encode(), add_bos=False, special=True)
    context = MODEL._ctx.ctx
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_temp(0.1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(0.9, 1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_dist(7))
    for begin in range(0, len(ids), 512):
        part = ids[begin : begin + 512]
        array = (lib.llama_token * len(part))(*part)
        lib.llama_decode(context, lib.llama_batch_get_one(array, len(part)))
    times: list[float] = []
    while len(times) < tokens:
        token = lib.llama_sampler_sample(chain, context, -1)
        times.append(time.perf_counter())
        if token == MODEL.token_eos():
            break
        array = (lib.llama_token * 1)(token)
        lib.llama_decode(context, lib.llama_batch_get_one(array, 1))
    lib.llama_sampler_free(chain)
    return times


def prefill(tokens: int) -> dict[str, Any]:
    """Tokens/s of one decode over a prompt, logits of its last token alone."""
    context = MODEL._ctx.ctx
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    array = (lib.llama_token * tokens)(*range(1000, 1000 + tokens))
    start = time.perf_counter()
    lib.llama_decode(context, lib.llama_batch_get_one(array, tokens))
    lib.llama_synchronize(context)
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """One timed answer, or one timed prefill."""
    if "prefill" in request:
        return prefill(request["prefill"])
    start = time.perf_counter()
    times = (chat if sys.argv[2] == "chat" else bare)(request["prompt"], request["tokens"])
    return {"first_s": times[0] - start, "tokens_per_s": (len(times) - 1) / (times[-1] - times[0])}


if __name__ == "__main__":
    serve_peer(handle)
