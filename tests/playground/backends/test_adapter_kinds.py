"""Adapters that others made: every kind answers as plain PEFT does, or is refused with the reason; nothing between."""

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from playground.protocol import Choices, ModelSpec, RowRequest
from tests.playground.backends.conftest import randomised
from tests.playground.backends.test_transformers import run

IDS = list(range(5, 45))
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LORA: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "a rank for some layers": {"rank_pattern": {r"layers\.[01]\..*q_proj": 2, "q_proj": 6}},
    "a scale for some layers": {"alpha_pattern": {r"^model\.layers\.0\..*": 64, r".*\.v_proj": 2, "v_proj": 99}},
    "an anchor that matches nothing": {"alpha_pattern": {"^q_proj": 99}, "rank_pattern": {"^self_attn.k_proj": 9}},
    "a rank and a scale, rsLoRA": {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"k_proj": 1}, "use_rslora": True},
    "an expression of targets": {"target_modules": r".*layers\.[02]\.self_attn\.(q|o)_proj"},
    "one layer alone": {"layers_to_transform": [1]},
    "one layer alone, by a pattern": {"layers_to_transform": 2, "layers_pattern": "layers"},
    "modules left out": {"target_modules": "all-linear", "exclude_modules": r".*\.layers\.1\..*"},
    "DoRA": {"use_dora": True},
    "DoRA and rsLoRA with patterns": {"use_dora": True, "use_rslora": True, "rank_pattern": {"q_proj": 2}},
    "biases of its own": {"lora_bias": True},
    "all biases": {"bias": "all"},
    "biases of its layers": {"bias": "lora_only"},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "embeddings and head": {"target_modules": ["embed_tokens", "lm_head"]},
    "embeddings and head, tied": {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "embeddings of its own": {"modules_to_save": ["embed_tokens"]},
    "both of its own, tied": {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "a norm of its own": {"modules_to_save": ["norm"]},
    "single tokens": {"trainable_token_indices": [3, 7, 20]},
    "single tokens of the embeddings": {"trainable_token_indices": {"embed_tokens": [3, 7, 20]}},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
    "MiCA": {"init_lora_weights": "mica"},
    "EVA": {"init_lora_weights": "eva", "eva_config": peft.EvaConfig()},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdaLoRA": ("AdaLoraConfig", {"target_modules": ATTENTION, "total_step": 10}),
    "IA3": ("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "LoHa": ("LoHaConfig", {"target_modules": ATTENTION, "r": 4}),
    "LoKr": ("LoKrConfig", {"target_modules": ATTENTION, "r": 4}),
    "OFT": ("OFTConfig", {"target_modules": ATTENTION, "oft_block_size": 4}),
    "HRA": ("HRAConfig", {"target_modules": ATTENTION, "r": 4}),
    "VeRA": ("VeraConfig", {"target_modules": ["q_proj", "o_proj"], "r": 4}),
    "FourierFT": ("FourierFTConfig", {"target_modules": ["q_proj"], "n_frequency": 30}),
    "LN tuning": ("LNTuningConfig", {"target_modules": ["input_layernorm", "norm"]}),
    "MiSS": ("MissConfig", {"target_modules": ATTENTION, "r": 4}),
}
QUICK = ("llama", "qwen3 tied")
BASES = ["llama", "llama tied", "qwen2", "qwen3 tied", "gemma3_text tied"]


@pytest.fixture(scope="module")
def loaded(tiny: Callable[[str], Path]) -> Callable[[str], TransformersBackend]:
    """Backends by base, each loaded once: adapters of all kinds come to stand beside one another in it."""
    made: dict[str, TransformersBackend] = {}

    def load(base: str) -> TransformersBackend:
        if base not in made:
            spec = ModelSpec(engine="transformers", name="tiny", path=str(tiny(base)), dtype="fp32")
            made[base] = TransformersBackend(spec)
        return made[base]

    return load


def saved(base: Path, config: peft.PeftConfig, folder: Path) -> Path:
    """Write an adapter of which every tensor is random, as PEFT itself saves it."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    randomised(model).save_pretrained(folder)
    return folder


def check_values(backend: TransformersBackend, base: Path, folder: Path) -> tuple[Any, torch.Tensor]:
    """Hold an adapter's distribution against PEFT's; return PEFT's model and log-probabilities."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([IDS])).logits[0], dim=-1)
    got = torch.from_numpy(backend.logprobs(IDS, str(folder)))
    assert (got - expected).abs().max() < 1e-3
    moved = (got - torch.from_numpy(backend.logprobs(IDS))).abs().max()
    assert moved > 1e-3, "the adapter changes nothing: the test would see no fault"
    return model, expected


def check(backend: TransformersBackend, base: Path, folder: Path, ask: Callable[..., RowRequest]) -> None:
    """Hold distribution, scores and a greedy answer of an adapter against PEFT's, and see that the base stays."""
    bare = torch.from_numpy(backend.logprobs(IDS))
    model, expected = check_values(backend, base, folder)
    scored = backend.score([Choices(context=tuple(IDS[:9]), continuations=(tuple(IDS[9:]),))], str(folder))
    assert scored.logprobs[0][0] == pytest.approx(float(expected[range(8, 39), IDS[9:]].sum()), abs=0.02)
    request = ask("안녕?", folder, temperature=0.0, repetition_penalty=1.0, max_new_tokens=6)
    prompt = backend.tokenizer().encode("<|im_start|>user\n안녕?<|im_end|>\n<|im_start|>assistant\n")
    theirs = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    answer = takewhile(lambda token: not backend.tokenizer().is_end(token), theirs[0, len(prompt) :].tolist())
    assert run(backend, [request])[0] == list(answer)
    assert torch.equal(torch.from_numpy(backend.logprobs(IDS)), bare)


@pytest.mark.parametrize(
    "base", [base if base in QUICK else pytest.param(base, marks=pytest.mark.slow) for base in BASES]
)
@pytest.mark.parametrize("kind", LORA)
def test_lora_of_every_kind(  # noqa: PLR0913 - a parameter an axis
    kind: str, base: str, tiny: Callable[[str], Path], loaded: Any, ask: Any, tmp_path: Path
) -> None:
    options = {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"} | LORA[kind]
    folder = saved(tiny(base), peft.LoraConfig(**options), tmp_path / "a")
    check(loaded(base), tiny(base), folder, ask)


@pytest.mark.parametrize("base", BASES)
def test_repeated_layers(base: str, tiny: Callable[[str], Path], loaded: Any, ask: Any, tmp_path: Path) -> None:
    """PEFT makes them, and models that keep a list of their layers' kinds cannot run then, there neither."""
    options = {"target_modules": ATTENTION, "task_type": "CAUSAL_LM", "layer_replication": [[0, 2], [1, 3]]}
    folder = saved(tiny(base), peft.LoraConfig(**options), tmp_path / "a")
    if base.startswith("llama"):
        check(loaded(base), tiny(base), folder, ask)
        return
    with pytest.raises(VariantError, match="PEFT cannot load the adapter a on this base: list index out of range"):
        loaded(base).tokenizer(str(folder))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_methods(kind: str, tiny: Callable[[str], Path], loaded: Any, ask: Any, tmp_path: Path) -> None:
    name, options = OTHERS[kind]
    folder = saved(tiny("llama"), getattr(peft, name)(task_type="CAUSAL_LM", **options), tmp_path / "a")
    check(loaded("llama"), tiny("llama"), folder, ask)
