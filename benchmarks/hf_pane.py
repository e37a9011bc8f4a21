"""A transformers pane against plain `model.generate`: same model, dtype, prompt, sampling and threads."""

import time

from benchmarks.common import PROMPT, Measured, Peer, ask, open_playground, settings, source

TOKENS = 64
VARIANT = "smollm2"


def run(runs: int) -> list[Measured]:
    """Tokens/s from the question to the end of the answer, prefill included on both sides."""
    chosen = settings()
    peer = Peer("peer_generate", source(VARIANT, chosen))
    ours, theirs = [], []
    with open_playground(chosen) as playground:
        for number in range(runs + 1):
            answer = ask(playground, [VARIANT], TOKENS)[VARIANT]
            said = peer.call({"prompt": PROMPT, "tokens": TOKENS})
            if number:
                ours.append(answer.tokens / answer.wall_s)
                theirs.append(said["tokens"] / said["wall_s"])
            time.sleep(0.3)
    peer.close()
    return [Measured("HF pane / model.generate", ours, theirs, ">= 1.0", "tokens/s")]
