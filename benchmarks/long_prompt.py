"""A GGUF pane after a long prompt against llama.cpp's bare decode loop, without flash attention and with it."""

import time

from benchmarks.common import PROMPT, Measured, Peer, ask, open_playground, settings
from playground.catalogue.variants import Catalogue

TOKENS = 64
VARIANT = "smollm2:demo:Q4_K_M"
LONG = "The old courtyard had a persimmon tree, a well and eleven doors. " * 64 + PROMPT
"""Some 1,000 tokens."""


def run(runs: int) -> list[Measured]:
    """Tokens/s after the first, and seconds to it, with nothing read before: each prompt begins with its number."""
    chosen = settings()
    file = getattr(Catalogue.load(chosen).get(VARIANT), "source", "")
    peers = {kind: Peer("peer_llama_cpp", file, kind) for kind in ("bare", "flash")}
    speed: dict[str, list[float]] = {"ours": [], "bare": [], "flash": []}
    first: dict[str, list[float]] = {"ours": [], "bare": [], "flash": []}
    with open_playground(chosen) as playground:
        for number in range(runs + 1):
            prompt = f"{number}. {LONG}"
            answer = ask(playground, [VARIANT], TOKENS, prompt=prompt)[VARIANT]
            rows = {"ours": ((answer.tokens - 1) / (answer.wall_s - answer.first_s), answer.first_s)}
            for kind, peer in peers.items():
                said = peer.call({"prompt": prompt, "tokens": TOKENS})
                rows[kind] = (said["tokens_per_s"], said["first_s"])
            if number:  # the first round warms all three up
                for kind, row in rows.items():
                    speed[kind].append(row[0])
                    first[kind].append(row[1])
            time.sleep(0.3)
    for peer in peers.values():
        peer.close()
    return [
        Measured("GGUF pane after 1,000 tokens / bare loop", speed["ours"], speed["bare"], ">= 0.95", "tokens/s"),
        Measured(
            "GGUF pane after 1,000 tokens / with flash attention", speed["ours"], speed["flash"], "any", "tokens/s"
        ),
        Measured("GGUF pane, first token after 1,000 / bare loop", first["ours"], first["bare"], "any", "s"),
        Measured("GGUF pane, first token after 1,000 / with flash", first["ours"], first["flash"], "any", "s"),
    ]
