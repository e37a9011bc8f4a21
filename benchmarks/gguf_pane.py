"""A GGUF pane against llama-cpp-python: its bare low-level decode loop, and its high-level chat stream."""

import time

from benchmarks.common import PROMPT, Measured, Peer, ask, open_playground, settings, source

TOKENS = 160
VARIANT = "smollm2:demo:Q4_K_M"


def run(runs: int) -> list[Measured]:
    """Tokens/s from first text to the end, and seconds to the first text; same file, prompt, preset and threads."""
    chosen = settings()
    file = source(VARIANT, chosen)
    peers = {kind: Peer("peer_llama_cpp", file, kind) for kind in ("bare", "chat")}
    seen: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": [], "chat": []}
    with open_playground(chosen) as playground:
        for number in range(runs + 1):
            answer = ask(playground, [VARIANT], TOKENS)[VARIANT]
            rows = {"ours": ((answer.tokens - 1) / (answer.wall_s - answer.first_s), answer.first_s)}
            for kind, peer in peers.items():
                said = peer.call({"prompt": PROMPT, "tokens": TOKENS})
                rows[kind] = (said["tokens_per_s"], said["first_s"])
            if number:  # the first round warms all three up
                for kind, row in rows.items():
                    seen[kind].append(row)
            time.sleep(0.3)
    for peer in peers.values():
        peer.close()
    speed = {kind: [row[0] for row in rows] for kind, rows in seen.items()}
    first = {kind: [row[1] for row in rows] for kind, rows in seen.items()}
    return [
        Measured("GGUF pane / bare decode loop", speed["ours"], speed["bare"], ">= 0.95", "tokens/s"),
        Measured("GGUF pane / high-level chat stream", speed["ours"], speed["chat"], ">= 1.05", "tokens/s"),
        Measured("GGUF pane, first token / bare loop", first["ours"], first["bare"], "+ 0.030 s", "s"),
    ]
