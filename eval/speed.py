"""Measure how fast a variant runs and how much memory it holds, in the worker that also chats."""

import statistics
from pathlib import Path

import psutil

from playground.catalogue.files import model_files
from playground.measure import drift
from playground.measure.probe import Probe
from playground.presets import Sampling
from playground.values import Value
from playground.workers.loadable import Loadable

RUNS = 3
ANSWER_TOKENS = 64
PROMPT_TOKENS = 512


class Speed(Value):
    """Medians of three runs: tokens/s of reading a 512-token prompt and of answering 64 tokens, seconds to the first
    token of that prompt; peak resident bytes of the worker; bytes of its files on disk, its base's not counted."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    first_token_s: float
    peak_memory_bytes: int
    size_bytes: int | None


def measure(probe: Probe) -> Speed:
    """Read and answer a fixed prompt three times, after one run that warms up."""
    text = _prompt(probe)
    probe.grow(len(probe.encode([text])[0]) + ANSWER_TOKENS)
    sampling = Sampling(temperature=0.0, repetition_penalty=1.0, max_new_tokens=ANSWER_TOKENS, seed=0)
    rows = []
    for _ in range(RUNS + 1):
        _, finished = next(iter(probe.complete([text], sampling)))
        rows.append(finished.stats)
    first = statistics.median(row.first_token_s or 0.0 for row in rows[1:])
    return Speed(
        prefill_tokens_per_s=rows[0].prompt_tokens / first,
        decode_tokens_per_s=statistics.median(row.tokens_per_s or 0.0 for row in rows[1:]),
        first_token_s=first,
        peak_memory_bytes=peak_memory(probe.pid),
        size_bytes=size(probe.loadable),
    )


def _prompt(probe: Probe) -> str:
    """Return a prompt of about 512 tokens, unfinished so that no model stops at once."""
    text = "\n\n".join(drift.texts())
    ids = probe.encode([text])[0]
    share = min(1.0, PROMPT_TOKENS / len(ids))
    return text[: int(len(text) * share)].rstrip() + "\n\nA long story about a courtyard in Seoul:\n\nOnce upon a time"


def peak_memory(pid: int) -> int:
    """Return the most resident bytes that a process ever held, where the system tells; else what it holds now."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    held = psutil.Process(pid).memory_info()
    return int(getattr(held, "peak_wset", held.rss))


def size(loadable: Loadable) -> int | None:
    """Return the bytes of a variant's own weights on disk: the adapter's file for an adapter, the model's otherwise."""
    if loadable.adapter is not None:
        file = Path(loadable.adapter) / "adapter_model.safetensors"
        return file.stat().st_size if file.exists() else None
    path = Path(loadable.spec.path)
    if not path.exists():
        return None
    return sum(file.stat().st_size for file in model_files(path))
