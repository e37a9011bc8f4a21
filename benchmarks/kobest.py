"""KoBEST on all five tasks beside lm-eval's `hf` model and Evalution's engines: documents/s, tokens, memory.

Timed is the scoring, encoding included: from lm-eval's requests to their answers, and Evalution's suites as a whole.
Evalution asks with prompts of its own, so its speed compares and its scores do not. MADANG_KOBEST names the folder of
the official files; without it the tests' hand-written sample is scored, whose documents are shorter.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Measured, Peer, open_playground, scratch, source
from eval import kobest
from eval.lm import VariantLM
from eval.runner import quiet
from eval.speed import peak_memory
from playground.compare import Playground
from playground.measure.probe import Probe, probing
from playground.settings import Settings
from training.export.gguf import convert

SAMPLE = ROOT / "tests" / "eval" / "data" / "kobest"
LIMIT = 10
TRIAL = 3
"""Documents of each task with which the peers' batch sizes are tried."""
BATCHES = (1, 2, 4, 8, 16)
ONE_BY_ONE = "Evalution F16"
"""The peer that scores one choice at a time, whatever batch it is given."""
PROMPT_TOKENS = 512
CATALOGUE = """
[[variant]]
name = "fp32"
kind = "base"
dtype = "fp32"
source = "{base}"

[[variant]]
name = "bf16"
kind = "base"
dtype = "bf16"
source = "{base}"

[[variant]]
name = "F16"
kind = "gguf"
source = "{gguf}"
"""


def run(runs: int) -> list[Measured]:
    """Documents/s of our three dtypes over each peer's, then what our scoring costs in tokens, time and memory."""
    base, folder = Path(source("smollm2")), scratch()
    gguf = folder / "smollm2-F16.gguf"
    convert(base, gguf)
    rows = folder / "rows"
    kobest.write(Path(os.environ.get("MADANG_KOBEST") or SAMPLE), rows)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    chosen = Settings(data=folder)
    (folder / "variants.toml").write_text(CATALOGUE.format(base=base, gguf=gguf), encoding="utf-8")
    with _peers(base, gguf, rows) as peers, open_playground(chosen) as playground:
        best = {name: _best(peer, (1,) if name == ONE_BY_ONE else BATCHES) for name, peer in peers.items()}
        seen: dict[str, list[float]] = {}
        for _ in range(runs):
            for variant in ("fp32", "bf16", "F16"):
                for name, value in _ours(playground, variant, rows).items():
                    seen.setdefault(name, []).append(value)
            for name, peer in peers.items():
                seen.setdefault(name, []).append(_speed(peer, best[name]))
            seen.setdefault("raw HF", []).append(_raw("peer_generate", str(base)))
            seen.setdefault("raw GGUF", []).append(_raw("peer_llama_cpp", str(gguf), "bare"))
    memory = {variant: _memory(chosen, variant, rows) for variant in ("bf16", "F16")}
    return _measured(seen, memory, best)


def _measured(
    seen: dict[str, list[float]], memory: dict[str, tuple[float, float]], best: dict[str, int]
) -> list[Measured]:
    def over(ours: str, peer: str, what: str, goal: str) -> Measured:
        said = f" (batch {best[peer]})" if peer in best else ""
        return Measured(f"KoBEST, {what}{said}", seen[ours], seen[peer], goal, "docs/s")

    lines = [
        over("fp32", "hf fp32", "fp32 / lm-eval hf fp32", ">= 2.7"),
        over("bf16", "hf bf16", "bf16 / lm-eval hf bf16", ">= 2.4"),
        over("bf16", "Evalution bf16", "bf16 / Evalution bf16", ">= 2.2"),
        over("F16", "hf fp32", "F16 GGUF / lm-eval hf fp32", ">= 2.6"),
        over("F16", ONE_BY_ONE, "F16 GGUF / Evalution llama.cpp", ">= 4"),
    ]
    for variant, raw in {"bf16": "raw HF", "F16": "raw GGUF"}.items():
        tokens = (seen[f"{variant} computed"], seen[f"{variant} least"])
        scored, loaded = memory[variant]
        lines += [
            Measured(f"KoBEST, {variant}: tokens computed / least", *tokens, "<= 1.05", "tokens"),
            Measured(f"KoBEST, {variant}: scoring / prefill", seen[f"{variant} tokens"], seen[raw], ">= 0.85", "tok/s"),
            Measured(f"KoBEST, {variant}: peak memory / loading", [scored], [loaded], "<= 1.3", "MB"),
        ]
    return lines


@contextmanager
def _peers(base: Path, gguf: Path, rows: Path) -> Iterator[dict[str, Peer]]:
    peers = {
        "hf fp32": Peer("peer_lm_eval", str(base), "float32", str(rows)),
        "hf bf16": Peer("peer_lm_eval", str(base), "bfloat16", str(rows)),
        "Evalution bf16": Peer("peer_evalution", str(base), "transformers", str(rows)),
        ONE_BY_ONE: Peer("peer_evalution", str(gguf), "llama.cpp", str(rows)),
    }
    try:
        yield peers
    finally:
        for peer in peers.values():
            peer.close()


def _speed(peer: Peer, batch: int, limit: int = LIMIT) -> float:
    said = peer.call({"batch": batch, "limit": limit})
    return float(said["documents"] / said["wall_s"])


def _best(peer: Peer, batches: Sequence[int]) -> int:
    """The batch size that a peer is fastest with; trying them warms it up, too."""
    return max(batches, key=lambda batch: _speed(peer, batch, TRIAL))


def _raw(module: str, *arguments: str) -> float:
    """Tokens/s at which an engine reads a prompt, with nothing around it."""
    peer = Peer(module, *arguments)
    peer.call({"prefill": PROMPT_TOKENS})
    speed = float(peer.call({"prefill": PROMPT_TOKENS})["tokens_per_s"])
    peer.close()
    return speed


def _ours(playground: Playground, variant: str, rows: Path) -> dict[str, float]:
    """Documents/s by the variant's name, tokens and tokens/s of one scoring."""
    with probing(playground, variant) as probe:
        return _score(probe, variant, rows)


def _score(probe: Probe, variant: str, rows: Path) -> dict[str, float]:
    lm = VariantLM(probe)
    documents, wall_s = timed(lm, rows, LIMIT)
    return {
        variant: documents / wall_s,
        f"{variant} computed": lm.count.computed,
        f"{variant} least": lm.count.least,
        f"{variant} tokens": lm.count.computed / wall_s,
    }


def timed(lm: Any, rows: Path, limit: int) -> tuple[int, float]:
    """Run KoBEST without shots through lm-eval; how many documents, and seconds in the model's own scoring."""
    import torch.utils.collect_env
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    torch.utils.collect_env.get_pretty_env_info = lambda: "left out: it takes seconds and is not timed"
    score: Callable[..., Any] = type(lm).loglikelihood.__get__(lm)
    wall_s = 0.0

    def loglikelihood(requests: list[Any], **options: Any) -> Any:
        nonlocal wall_s
        start = time.perf_counter()
        answers = score(requests, **options)
        wall_s += time.perf_counter() - start
        return answers

    lm.loglikelihood = loglikelihood
    with quiet():
        content = simple_evaluate(
            model=lm,
            tasks=kobest.configs(kobest.written(rows)),
            num_fewshot=0,
            limit=limit,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False),
        )
    assert content is not None
    return sum(len(samples) for samples in content["samples"].values()), wall_s


def _memory(chosen: Settings, variant: str, rows: Path) -> tuple[float, float]:
    """Peak resident megabytes of a fresh worker after scoring, and after loading alone."""
    with open_playground(chosen) as playground, probing(playground, variant) as probe:
        loaded = peak_memory(probe.pid)
        _score(probe, variant, rows)
        return peak_memory(probe.pid) / 2**20, loaded / 2**20
