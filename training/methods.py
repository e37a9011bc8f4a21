"""What sets the ways of training apart, in one table: data, TRL's classes, defaults, memory. Loads no engine."""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["conversation", "text", "preference", "rated", "prompt"]
Method = Literal["sft", "dpo", "kto", "orpo", "grpo", "cpt"]


@dataclass(frozen=True)
class Way:
    """One way of training. `wants` says in words what `kinds` of rows it learns from.

    `config`: where TRL has its config. `defaults`: fields of it that differ from TRAINER. `compares`: it learns the
    difference between answers, with all logits at once, and never packs. `answers`: of one row in one forward pass.
    `copies`: fp32 copies of all logits at once (logits, log-probabilities, gradient, the reference's). `least_batch`:
    no guard makes the batch smaller. `rewarded`: the model answers, and the recipe's rewards, which are code, score it.
    """

    kinds: tuple[Kind, ...]
    wants: str
    config: str
    defaults: dict[str, Any] = field(default_factory=dict)
    compares: bool = False
    answers: int = 1
    copies: int = 3
    least_batch: int = 1
    rewarded: bool = False


CPT: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 2e-5,
    "warmup_steps": 0.1,  # below 1 it is a share of all steps
    "packing": True,
    "packing_strategy": "bfd_split",  # a long document goes on in the next pack instead of losing its end
    "max_length": 4096,
}
KTO: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,  # the KL term is estimated within it
    "learning_rate": 1e-6,
    "beta": 0.1,
}
DPO: dict[str, Any] = {"num_train_epochs": 1, "learning_rate": 5e-7, "beta": 0.1}
ORPO: dict[str, Any] = {"num_train_epochs": 1, "learning_rate": 8e-6, "beta": 0.1}
GRPO: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-6,
    "num_generations": 8,
    "max_completion_length": 256,
}
PAIRS = "preference pairs (chosen, rejected)"
METHODS: dict[str, Way] = {
    "sft": Way(("conversation", "text"), "conversations or text", "trl:SFTConfig"),
    "dpo": Way(("preference",), PAIRS, "trl:DPOConfig", DPO, compares=True, answers=2, copies=4),
    "kto": Way(
        ("rated", "preference"),
        "rated answers (label) or preference pairs",
        *("trl:KTOConfig", KTO),
        compares=True,
        copies=4,
        least_batch=2,
    ),
    "orpo": Way(("preference",), PAIRS, "trl.experimental.orpo:ORPOConfig", ORPO, compares=True, answers=2, copies=4),
    "grpo": Way(("prompt",), "prompts", "trl:GRPOConfig", GRPO, compares=True, rewarded=True),
    "cpt": Way(("text",), "plain text", "trl:SFTConfig", CPT),
}
"""Defaults are the guide's for SFT, DPO and continued pre-training, TRL's for KTO and GRPO, the paper's (2403.07691)
for ORPO. The order decides which one is named for data that another cannot use."""
