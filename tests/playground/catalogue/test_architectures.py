"""Which bases are language models, told from config.json as transformers would load it."""

from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import architectures, files
from playground.errors import VariantError


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"},
        {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"},
        {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3"},
        {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
        {"architectures": ["BertLMHeadModel"], "model_type": "bert", "is_decoder": True},
        {"model_type": "qwen3"},
    ],
)
def test_language_models_pass(config: dict[str, Any], tmp_path: Path) -> None:
    architectures.check(tmp_path, config)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("LlamaForSequenceClassification", "llama", "a classifier or reward model"),
        ("LlamaForRewardModel", "llama", "a reward model"),
        ("Qwen2ForTokenClassification", "qwen2", "a classifier of tokens"),
        ("BertForMaskedLM", "bert", "an encoder"),
        ("BertModel", "bert", "an encoder"),
        ("XLMRobertaForCausalLM", "xlm-roberta", "an encoder"),
        ("BartForConditionalGeneration", "bart", "an encoder with a decoder"),
        ("WhisperForConditionalGeneration", "whisper", "captions, transcripts or music"),
        ("T5ForConditionalGeneration", "t5", "an encoder with a decoder"),
        ("ViTForImageClassification", "vit", "a classifier of pictures"),
        ("CLIPModel", "clip", "of the type clip, which Madang cannot use for text"),
        ("Gemma4AssistantForCausalLM", "gemma4_assistant", "a draft"),
        ("WavLMForCTC", "wavlm", "a model of speech"),
    ],
)
def test_what_writes_no_answers_is_refused_by_what_it_is(name: str, kind: str, said: str, tmp_path: Path) -> None:
    config = {"architectures": [name], "model_type": kind, "is_encoder_decoder": kind in ("t5", "bart")}
    with pytest.raises(VariantError) as caught:
        architectures.check(tmp_path, config)
    assert said in caught.value.message
    assert caught.value.hint


def test_models_that_see_or_hear_are_known(tmp_path: Path) -> None:
    assert architectures.is_multimodal({"model_type": "qwen2_5_vl"})
    assert architectures.is_multimodal({"model_type": "gemma3", "vision_config": {"hidden_size": 8}})
    assert not architectures.is_multimodal({"model_type": "gemma3_text"})


def test_the_table_is_that_of_transformers() -> None:
    from transformers.models.auto import modeling_auto

    kinds = architectures.types()
    causal = kinds["writes"] | kinds["encoders"] | kinds["encoder_decoders"] | kinds["drafts"] | kinds["others"]
    assert causal == set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert kinds["multimodal"] <= set(modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)


def test_odd_configs_are_no_traceback(tmp_path: Path, model_files: Any) -> None:
    for config in ({"architectures": None}, {"architectures": 3}, {"architectures": "LlamaForCausalLM"}):
        files.check_loadable(model_files.base(tmp_path / str(config["architectures"]), **config))
