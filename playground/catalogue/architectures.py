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
from playground.wording import worded

TABLE = Path(__file__).with_suffix(".toml")
HEADS = {
    "ForSequenceClassification": "architectures.classifier_or_reward",
    "RewardModel": "architectures.reward_model_which",
    "ForRewardModeling": "architectures.reward_model_which",
    "ForTokenClassification": "architectures.classifier_tokens_which",
    "ForQuestionAnswering": "architectures.model_marks_answer",
    "ForMultipleChoice": "architectures.classifier_which_writes",
    "ForMaskedLM": "architectures.encoder_masked_language",
    "ForPreTraining": "architectures.encoder_which_writes",
    "ForSpeechSeq2Seq": "architectures.model_speech_which",
    "ForCTC": "architectures.model_speech_which",
    "ForAudioClassification": "architectures.classifier_sound",
    "ForImageClassification": "architectures.classifier_pictures",
    "ForObjectDetection": "architectures.model_finds_things",
    "ForSemanticSegmentation": "architectures.model_divides_pictures",
    "ForDepthEstimation": "architectures.model_measures_pictures",
}
"""Ends of the names of transformers' classes whose models do not write one token after another."""
KINDS = {
    "encoders": "architectures.encoder_which_reads",
    "encoder_decoders": "architectures.encoder_with_decoder",
    "drafts": "architectures.draft_which_only",
    "others": "architectures.model_writes_captions",
}
SENSES = ("vision_config", "audio_config", "vision_model_config", "img_processor")
"""Parts of a config.json that stand for an encoder of pictures or sound beside the language model."""
NO_HEAD = re.compile(r"\w+(?<!LMHead)Model")
OUTPUT = re.compile(r"(lm_head|embed_out|output|head)\.weight$")
INSTEAD = "architectures.instead"


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
        raise VariantError(
            worded("architectures.told", folder=folder.name, what=what, named=", ".join(named) or kind), worded(INSTEAD)
        )
    if kind and kind not in types()["writes"] | types()["multimodal"] and not _is_decoder(config, named):
        raise VariantError(
            worded("architectures.type_madang_cannot", folder=folder.name, kind=kind),
        )


def check_head(folder: Path, config: Mapping[str, Any], tensors: Iterable[str]) -> None:
    """Refuse a language model without the layer that writes: what is made for embeddings is kept so."""
    named = _classes(config)
    bare = bool(named) and all(NO_HEAD.fullmatch(name) for name in named)
    if bare and config.get("tie_word_embeddings") is False and not any(map(OUTPUT.search, tensors)):
        what = worded("architectures.without_output", named=named[0])
        raise VariantError(worded("architectures.writes_no_text", folder=folder.name, what=what), worded(INSTEAD))


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
    return next((worded(what) for end, what in HEADS.items() for name in named if name.endswith(end)), "")


def _other_kind(config: Mapping[str, Any], kind: str, named: list[str]) -> str:
    if _is_decoder(config, named):
        return ""
    if config.get("is_encoder_decoder"):
        return worded(KINDS["encoder_decoders"])
    return next((worded(what) for group, what in KINDS.items() if kind in types()[group]), "")


def _is_decoder(config: Mapping[str, Any], named: list[str]) -> bool:
    """Return whether a type that is no language model by itself was made one: the decoder of an encoder's family."""
    causal = any(name.endswith(("ForCausalLM", "LMHeadModel", "Decoder")) for name in named)
    known = str(config.get("model_type")) in types()["encoders"] | types()["encoder_decoders"]
    return causal and known and bool(config.get("is_decoder")) and not config.get("is_encoder_decoder")
