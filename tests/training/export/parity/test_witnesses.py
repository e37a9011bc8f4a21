"""The embedded model's exports before witnesses that share no code with Madang: plain PEFT, transformers, gguf, and
another build of llama.cpp, where the package `xllamacpp` brings one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.export.parity import prompts

from .conftest import Made

pytestmark = [pytest.mark.models, pytest.mark.slow]
TOKENS = 24
SERVE = """
import json, sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], 2048, 1
params.cpuparams.n_threads = 2
server = xllamacpp.Server(params)
for turns in json.loads(sys.argv[2]):
    asked = {"messages": turns, "max_tokens": int(sys.argv[3]), "temperature": 0.0, "cache_prompt": False}
    print("ANSWER" + json.dumps(server.handle_chat_completions(asked)["choices"][0]["message"]["content"]), flush=True)
"""


def chats() -> list[list[dict[str, str]]]:
    return [[message.model_dump(exclude_none=True) for message in turns] for turns in prompts.questions()]


def answers(model: Any, tokenizer: Any) -> list[str]:
    """Greedy answers by transformers' own template and `generate`."""
    said = []
    for turns in chats():
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        done = model.generate(**asked, do_sample=False, max_new_tokens=TOKENS, repetition_penalty=1.0)
        said.append(tokenizer.decode(done[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
    return said


@pytest.fixture(scope="module")
def with_peft(embedded: Made) -> Any:
    """The adapter on its base through plain PEFT, in fp32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(embedded.base, dtype=torch.float32)
    return PeftModel.from_pretrained(base, embedded.adapter).eval()


@pytest.fixture(scope="module")
def expected(embedded: Made, with_peft: Any) -> list[str]:
    from transformers import AutoTokenizer

    return answers(with_peft, AutoTokenizer.from_pretrained(embedded.base))


def test_the_merged_folder_in_plain_transformers(embedded: Made, with_peft: Any, expected: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(embedded.merged, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded.merged)
    assert answers(merged, tokenizer) == expected
    ids = tokenizer("마당은 집 안의 하늘이다. The courtyard was quiet.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        apart = (merged(ids).logits - with_peft(ids).logits).abs().max()
    assert apart < 0.05


def test_the_gguf_tensor_by_tensor(embedded: Made) -> None:
    """By the demo's own table of names, not parity's: F16 keeps what the merged folder holds, to the last bit."""
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import load_file

    from training.demo.unpack import hf_name, unrotate

    merged, reader = load_file(embedded.merged / "model.safetensors"), GGUFReader(embedded.file("f16"))
    config = json.loads((embedded.merged / "config.json").read_text(encoding="utf-8"))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        got, part = dequantize(tensor.data, tensor.tensor_type), tensor.name.split(".")[-2]
        want = merged.pop(hf_name(tensor.name)).astype(np.float32)
        assert np.array_equal(unrotate(got, heads[part]) if part in heads else got, want), tensor.name
    assert merged == {}


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="pip install xllamacpp")
@pytest.mark.parametrize("level", ["f16", "q8_0", "q4_k_m"])
def test_the_gguf_served_by_another_llama_cpp(embedded: Made, expected: list[str], level: str) -> None:
    """Its own template engine, tokenizer and kernels: the same answers at F16, sensible ones below."""
    got = served(embedded.file(level))
    assert len(got) == len(expected)
    if level == "f16":
        assert got == expected
    agreeing = sum(a[:20] == b[:20] for a, b in zip(got, expected, strict=True))
    assert agreeing >= len(expected) / 2, (got, expected)


def served(file: Path) -> list[str]:
    """In a process of its own: two builds of one native library do not mix."""
    command = [sys.executable, "-c", SERVE, str(file), json.dumps(chats()), str(TOKENS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line.removeprefix("ANSWER")) for line in done.stdout.splitlines() if line.startswith("ANSWER")]
