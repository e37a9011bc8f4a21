"""Adapters drawn at random over LoraConfig's fields: served as plain PEFT serves them."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from tests.playground.backends.test_adapter_kinds import ATTENTION, IDS, saved
from tests.playground.backends.test_transformers import load

BASES = ["llama", "llama tied", "qwen2", "qwen3 tied", "gemma3_text tied", "qwen3_moe"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj", "lm_head", "embed_tokens"]
PATTERNS = ["q_proj", r"^model\.layers\.0\..*", r"layers\.[12]\.self_attn\.(k|v)_proj", "self_attn.o_proj", ".*down.*"]
TARGETS = st.one_of(
    st.lists(st.sampled_from(LINEAR), min_size=1, max_size=4, unique=True),
    st.sampled_from(
        ["all-linear", r".*\.(q|v)_proj", r".*layers\.1\..*_proj", r"model\.layers\.\d+\.self_attn\.o_proj"]
    ),
)
FIELDS = {
    "target_modules": TARGETS,
    "r": st.integers(1, 9),
    "lora_alpha": st.integers(1, 64),
    "rank_pattern": st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 9), max_size=3),
    "alpha_pattern": st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 64), max_size=3),
    "use_rslora": st.booleans(),
    "use_dora": st.sampled_from([False, False, False, True]),
    "lora_bias": st.sampled_from([False, False, False, True]),
    "bias": st.sampled_from(["none", "none", "all", "lora_only"]),
    "exclude_modules": st.sampled_from([None, None, ["k_proj"], r".*layers\.2\..*"]),
    "layers_to_transform": st.sampled_from([None, None, None, 1, [0, 2], []]),
    "layers_pattern": st.sampled_from([None, None, None, None, "layers", ["layers"]]),
    "modules_to_save": st.sampled_from([None, None, None, ["lm_head"], ["embed_tokens"], ["norm", "lm_head"]]),
    "trainable_token_indices": st.sampled_from([None, None, None, [3, 9], {"embed_tokens": [4]}]),
    "init_lora_weights": st.sampled_from([True, True, True, False, "gaussian", "orthogonal", "pissa", "olora", "mica"]),
    "ensure_weight_tying": st.sampled_from([False, False, True]),
    "fan_in_fan_out": st.sampled_from([False, False, False, False, True]),
}


@pytest.fixture(scope="module")
def loaded(tiny: Callable[[str], Path]) -> Callable[[str], TransformersBackend]:
    made: dict[str, TransformersBackend] = {}
    return lambda base: made.setdefault(base, made[base] if base in made else load(tiny(base)))


def theirs(base: Path, folder: Path) -> torch.Tensor:
    """The log-probabilities of plain PEFT."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([IDS])).logits[0], dim=-1)


@pytest.mark.slow
def test_any_config_answers_as_in_peft(tiny: Callable[[str], Path], loaded: Any) -> None:
    told = {"made": 0, "equal": 0, "refused": 0}

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(base=st.sampled_from(BASES), fields=st.fixed_dictionaries(FIELDS))
    def draw(base: str, fields: dict[str, Any]) -> None:
        with TemporaryDirectory() as scratch:
            try:
                folder = saved(tiny(base), peft.LoraConfig(task_type="CAUSAL_LM", **fields), Path(scratch) / "a")
                expected = theirs(tiny(base), folder)
            except (ValueError, RuntimeError, KeyError, TypeError, NotImplementedError, AttributeError, IndexError):
                reject()  # PEFT itself makes no such adapter, or cannot load it
            told["made"] += 1
            bare = loaded(base).logprobs(IDS)
            try:
                got = torch.from_numpy(loaded(base).logprobs(IDS, str(folder)))
            except VariantError:
                told["refused"] += 1
            else:
                assert (got - expected).abs().max() < 1e-3
                told["equal"] += 1
            assert (loaded(base).logprobs(IDS) == bare).all()

    draw()
    print(told)  # noqa: T201 - pytest -s shows how many there were
    assert told["equal"] == told["made"] >= 200
