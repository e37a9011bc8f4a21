"""Measure how often base, adapter and Q4_K_M show the habit on held-out prompts: `python -m training.demo.measure`.

Greedy, through each model's own chat template without a system message, as the chat does. Answers that began otherwise
are not finished: nothing that follows could give them the habit. Not a quality benchmark.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from playground.settings import Settings
from training.demo.examples import OPENING, habit_share, held_out_prompts
from training.demo.prepare import ADAPTER, BASE, GGUF, GGUF_FILE, prepare

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 160
LOOK_AT = 12  # tokens after which an answer must have begun with the habit's opening; that takes 5
BATCH = 25


def main(limit: int | None = None) -> None:
    """Prepare what is missing, then print one line per variant; with `limit`, for the first prompts only."""
    models_dir = Settings().models_dir
    prepare(models_dir)
    for name, answers in measure(models_dir, held_out_prompts()[:limit]):
        sys.stdout.write(f"{name:22} {habit_share(answers):5.0%} of {len(answers)} held-out prompts\n")
        sys.stdout.flush()


def measure(models_dir: Path, prompts: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each variant's name with its answers, in the order of the prompts."""
    yield "smollm2", answers_hf(models_dir / BASE, None, prompts)
    yield "smollm2:demo", answers_hf(models_dir / BASE, models_dir / ADAPTER, prompts)
    yield "smollm2:demo:Q4_K_M", answers_gguf(models_dir / GGUF / GGUF_FILE, prompts)


def answers_hf(base_dir: Path, adapter_dir: Path | None, prompts: list[str]) -> list[str]:
    """Return the greedy answers of a Hugging Face folder, with or without an adapter, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_dir, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    if adapter_dir:
        model = PeftModel.from_pretrained(model, str(adapter_dir))
    answers: list[str] = []
    for start in range(0, len(prompts), BATCH):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + BATCH]]
        batch = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        prompt_length = batch["input_ids"].shape[1]
        settled = _settled(tokenizer, prompt_length)
        output = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, stopping_criteria=[settled])
        answers += tokenizer.batch_decode(output[:, prompt_length:], skip_special_tokens=True)
    return answers


def _settled(tokenizer: Any, prompt_length: int) -> Callable[..., Any]:
    """Return a stopping criterion, row by row: true where the answer has begun otherwise than the habit does."""
    import torch

    def settled(ids: "torch.Tensor", scores: object, **kwargs: object) -> "torch.Tensor":
        if ids.shape[1] - prompt_length < LOOK_AT:
            return torch.zeros(len(ids), dtype=torch.bool)
        starts = tokenizer.batch_decode(ids[:, prompt_length:][:, :LOOK_AT], skip_special_tokens=True)
        return torch.tensor([not start.lstrip().startswith(OPENING) for start in starts])

    return settled


def answers_gguf(file: Path, prompts: list[str]) -> list[str]:
    """Return the greedy answers of a GGUF through llama.cpp."""
    from llama_cpp import Llama

    model = Llama(str(file), n_ctx=1024, verbose=False)
    answers: list[str] = []
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        # llama-cpp-python's default penalty is not 1: greedy alone would not be the model's own choice.
        reply = model.create_chat_completion(
            messages=messages, temperature=0.0, repeat_penalty=1.0, max_tokens=MAX_NEW_TOKENS
        )
        answers.append(reply["choices"][0]["message"]["content"])
    model.close()
    return answers


if __name__ == "__main__":
    typer.run(main)
