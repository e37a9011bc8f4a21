"""Whether a config.json is a language model's, for text alone or with senses beside it. Imports no engine.

architectures.toml is the table of model types, taken from transformers.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from playground.errors import VariantError
from playground.system import documents

TABLE = Path(__file__).with_suffix(".toml")
HEADS = {
    "ForSequenceClassification": "a classifier or reward model, which gives scores and writes no text",
    "RewardModel": "a reward model, which gives scores and writes no text",
    "ForRewardModeling": "a reward model, which gives scores and writes no text",
    "ForTokenClassification": "a classifier of tokens, which writes no text",
    "ForQuestionAnswering": "a model that marks an answer in a text and writes none",
    "ForMultipleChoice": "a classifier, which writes no text",
    "ForMaskedLM": "an encoder (a masked language model), which fills gaps and writes no answers",
    "ForPreTraining": "an encoder, which writes no answers",
    "ForSpeechSeq2Seq": "a model of speech, which writes transcripts and no answers",
    "ForCTC": "a model of speech, which writes transcripts and no answers",
    "ForAudioClassification": "a classifier of sound",
    "ForImageClassification": "a classifier of pictures",
    "ForObjectDetection": "a model that finds things in pictures",
    "ForSemanticSegmentation": "a model that divides pictures",
    "ForDepthEstimation": "a model that measures pictures",
}
"""Ends of the names of transformers' classes whose models do not write one token after another."""
KINDS = {
    "encoders": "an encoder, which reads and writes no answers",
    "encoder_decoders": "an encoder with a decoder, which writes one text for another and no answers",
    "drafts": "a draft, which only guesses ahead for the model it belongs to",
    "others": "a model that writes captions, transcripts or music, and no answers",
}
SENSES = ("vision_config", "audio_config", "vision_model_config", "img_processor")
"""Parts of a config.json that stand for an encoder of pictures or sound beside the language model."""
NO_HEAD = re.compile(r"\w+(?<!LMHead)Model")
OUTPUT = re.compile(r"(lm_head|embed_out|output|head)\.weight$")
INSTEAD = "Add a language model: of those that chat, config.json names a class such as LlamaForCausalLM."


@cache
def types() -> dict[str, frozenset[str]]:
    """Return the model types of each kind."""
    return {kind: frozenset(names) for kind, names in documents.read(TABLE, "TOML").items()}


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Return whether a language model reads pictures or sound as well."""
    return config.get("model_type") in types()["multimodal"] or any(config.get(part) for part in SENSES)


def check(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse what transformers would not load as a language model, or would load and have answer nonsense."""
    kind = str(config.get("model_type") or "")
    named = _classes(config)
    if what := _other_head(named) or _other_kind(config, kind, named):
        raise VariantError(f"{folder.name} is {what} ({', '.join(named) or kind}).", INSTEAD)
    if kind and kind not in types()["writes"] | types()["multimodal"] and not _is_decoder(config, named):
        raise VariantError(
            f"{folder.name} is of the type {kind}, which Madang cannot use for text with transformers.",
            "A GGUF of it runs where llama.cpp knows it; or have another server run it and add that one's address.",
        )


def check_head(folder: Path, config: Mapping[str, Any], tensors: Iterable[str]) -> None:
    """Refuse a language model without the layer that writes: what is made for embeddings is kept so."""
    named = _classes(config)
    bare = bool(named) and all(NO_HEAD.fullmatch(name) for name in named)
    if bare and config.get("tie_word_embeddings") is False and not any(map(OUTPUT.search, tensors)):
        what = f"a {named[0]} without its output layer, as it is kept for embeddings"
        raise VariantError(f"{folder.name} is {what}: it writes no text.", INSTEAD)


def auto_class(config: Any) -> Any:
    """Return the class of transformers that loads a base: of language models, or of those that see or hear as well."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, AutoModelForMultimodalLM

    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForMultimodalLM


def _classes(config: Mapping[str, Any]) -> list[str]:
    """Return the classes of transformers that a config.json names."""
    found = config.get("architectures")
    return [str(name) for name in found] if isinstance(found, list) else []


def _other_head(named: list[str]) -> str:
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in named):
        return ""
    return next((what for end, what in HEADS.items() for name in named if name.endswith(end)), "")


def _other_kind(config: Mapping[str, Any], kind: str, named: list[str]) -> str:
    if _is_decoder(config, named):
        return ""
    if config.get("is_encoder_decoder"):
        return KINDS["encoder_decoders"]
    return next((what for group, what in KINDS.items() if kind in types()[group]), "")


def _is_decoder(config: Mapping[str, Any], named: list[str]) -> bool:
    """Return whether a type that is no language model by itself was made one: the decoder of an encoder's family."""
    causal = any(name.endswith(("ForCausalLM", "LMHeadModel", "Decoder")) for name in named)
    known = str(config.get("model_type")) in types()["encoders"] | types()["encoder_decoders"]
    return causal and known and bool(config.get("is_decoder")) and not config.get("is_encoder_decoder")
