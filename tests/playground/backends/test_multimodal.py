"""Models that see as well, asked in text alone, answer as transformers' own forward pass does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMultimodalLM, LlamaConfig, LlamaForSequenceClassification

from playground.backends.transformers import TransformersBackend
from playground.catalogue import files
from playground.errors import VariantError
from playground.presets import Sampling
from playground.protocol import Choices, ModelSpec, RowRequest
from tests.playground.backends.conftest import SHAPE, tokenizer

ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SEEING: dict[str, dict[str, Any]] = {
    "mistral3": {
        "text_config": {"model_type": "mistral", **SHAPE},
        "vision_config": {"model_type": "pixtral", "image_size": 28, "patch_size": 14, "head_dim": 16, **SMALL},
    },
    "qwen2_5_vl": {
        "text_config": SHAPE | {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}},
        "vision_config": {
            "depth": 1,
            "hidden_size": 64,
            "out_hidden_size": 64,
            "num_heads": 4,
            "intermediate_size": 96,
        },
    },
    "gemma3": {
        "text_config": SHAPE | {"sliding_window": 4, "query_pre_attn_scalar": 16},
        "vision_config": {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **SMALL},
        "mm_tokens_per_image": 4,
    },
}


@pytest.fixture(params=SEEING)
def seeing(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return that_sees(request.param, tmp_path)


def that_sees(family: str, folder: Path) -> Path:
    """Write a tiny random model that sees."""
    torch.manual_seed(3407)
    words = tokenizer()
    options = {key: dict(part) if isinstance(part, dict) else part for key, part in SEEING[family].items()}
    options["text_config"] |= {"vocab_size": len(words), "eos_token_id": words.eos_token_id, "pad_token_id": 0}
    special = {name: 1 for name in ("image_token_id", "image_token_index", "video_token_id", "boi_token_index")}
    config = AutoConfig.for_model(family, **options, **special, eoi_token_index=1)
    model = AutoModelForMultimodalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def load(folder: Path) -> TransformersBackend:
    return TransformersBackend(ModelSpec(engine="transformers", name="m", path=str(folder), dtype="fp32", threads=1))


def test_text_is_answered_as_transformers_does(seeing: Path) -> None:
    files.check_base(seeing)
    files.check_loadable(seeing)
    ids = tuple(range(5, 29))
    model = AutoModelForMultimodalLM.from_pretrained(seeing, dtype=torch.float32).eval()
    with torch.no_grad():
        want = torch.log_softmax(model(input_ids=torch.tensor([list(ids)])).logits[0], -1)
    backend = load(seeing)
    assert torch.tensor(backend.logprobs(ids)).sub(want).abs().max() < 1e-4
    scored = backend.score([Choices(context=ids[:16], continuations=(ids[16:20], ids[16:]))])
    sums = [float(sum(want[15 + n, ids[16 + n]] for n in range(count))) for count in (4, 8)]
    assert scored.logprobs[0] == pytest.approx(sums, abs=1e-3)
    row, steps = backend.open(RowRequest(variant="m", ids=ids, sampling=Sampling()), list(ids)), []
    with torch.inference_mode():
        for begin, end in ((0, 20), *((n, n + 1) for n in range(20, len(ids)))):
            steps.append(backend._forward([row], [list(ids[begin:end])], torch.arange(begin, end)[None], None))
    decoded = torch.stack([torch.log_softmax(step.reshape(-1, step.shape[-1])[-1], -1) for step in steps])
    assert (decoded - want[19:]).abs().max() < 1e-4


def test_a_model_without_its_output_layer_is_refused(tmp_path: Path) -> None:
    """transformers would fill what is missing with random numbers and only warn."""
    config = LlamaConfig(**SHAPE, vocab_size=320, pad_token_id=0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(VariantError, match="lacks 1 of the weights of a LlamaForCausalLM, lm_head.weight first"):
        load(tmp_path)
