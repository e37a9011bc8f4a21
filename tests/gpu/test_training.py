"""Fine-tuning on an NVIDIA card, with Unsloth and with PEFT, by the same recipes: make test TESTS=gpu."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.places import ROOT
from tests.training.trained import Train, losses
from training.run.runs import Run
from training.trainer import loading

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card here"),
]
UNSLOTH = pytest.param(
    "unsloth", marks=pytest.mark.skipif(find_spec("unsloth") is None, reason="the extra unsloth is not installed")
)
ENGINES = pytest.mark.parametrize("engine", ["peft", UNSLOTH])
METHODS = pytest.mark.parametrize("method", ["sft-messages", "dpo", "kto", "orpo", "cpt"])


def probe(*asked: str | Path) -> dict[str, float]:
    """What tests/gpu/probe.py says."""
    command = [sys.executable, "-m", "tests.gpu.probe", *map(str, asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def outcome(run: Run) -> dict[str, str]:
    found: dict[str, str] = json.loads((run.folder / "outcome-0.json").read_text())
    return found


def learnt(run: Run) -> dict[str, torch.Tensor]:
    """The adapter's B matrices, which are zero before the first step."""
    weights = load_file(run.adapter / "adapter_model.safetensors")
    return {name: tensor for name, tensor in weights.items() if "lora_B" in name}


@ENGINES
@METHODS
def test_each_method_learns(engine: str, method: str, train: Train) -> None:
    run = train(method, f"engine={engine}", "trainer.max_steps=40", "trainer.eval_steps=20")
    assert outcome(run)["engine"] == engine
    evaluated = losses(run, "eval_loss")
    assert evaluated[-1] < evaluated[0] - 0.05, evaluated
    if method in ("dpo", "kto", "orpo"):
        margins = losses(run, "eval_rewards/margins")
        assert margins[-1] > 0.1 > abs(margins[0])
    assert all(float(tensor.abs().max()) > 0 for tensor in learnt(run).values())
    assert max(row["gpu_gib"] for row in run.metrics() if "gpu_gib" in row) > 0.1


@pytest.mark.skipif(find_spec("unsloth") is None, reason="the extra unsloth is not installed")
@pytest.mark.parametrize(("engine", "other"), [("peft", "unsloth"), ("unsloth", "peft")])
def test_an_adapter_of_either_engine_loads_in_the_other(engine: str, other: str, train: Train) -> None:
    run = train("sft-messages", f"engine={engine}", "trainer.max_steps=20", "trainer.eval_steps=20")
    rows = run.data / "evaluation.arrow"
    own, others = (probe("loss", name, run.adapter, rows)["loss"] for name in (engine, other))
    assert own == pytest.approx(others, rel=0.02)
    assert own < losses(run, "eval_loss")[0] - 0.3
    names = set(load_file(run.adapter / "adapter_model.safetensors"))
    assert len(names) == 2 * 7 * 30
    assert all(name.startswith("base_model.model.model.layers.") for name in names)


@ENGINES
@METHODS
def test_a_1b_model_in_4_bit(engine: str, method: str, train: Train, one_billion: Path) -> None:
    run = train(method, f"engine={engine}", f"model={one_billion}", "load_in_4bit=true", "trainer.max_steps=6")
    assert outcome(run)["engine"] == engine
    trained = losses(run)
    assert len(trained) == 6
    assert all(math.isfinite(loss) for loss in trained)
    assert all(float(tensor.abs().max()) > 0 for tensor in learnt(run).values())
    assert max(row["gpu_gib"] for row in run.metrics() if "gpu_gib" in row) < 2.2  # bf16 weights alone are 2.0 GiB


@ENGINES
def test_packed_rows_do_not_see_each_other(engine: str, smollm2: Path) -> None:
    apart = probe("packing", engine, smollm2)
    assert apart["packed"] < 0.2, apart  # bf16 kernels of other shapes round differently
    assert apart["joined"] > 5 * apart["packed"], apart


def test_loftq_brings_the_weights_nearer_and_leaves_the_base_alone(train: Train) -> None:
    from bitsandbytes.functional import dequantize_4bit

    sets = ["engine=peft", "load_in_4bit=true", "lora.r=32", "trainer.max_steps=2"]
    run = train("sft-messages", *sets, "lora.init_lora_weights=loftq", until="begun")
    recipe, model, plan = run.recipe(), run.model(), run.plan()
    source = load_file(Path(model.folder) / "model.safetensors")
    wrapped = loading.load("peft", recipe, model, plan, on_card=True).model
    plain = loading.load(
        "peft", recipe.model_copy(update={"lora": recipe.lora | {"init_lora_weights": True}}), model, plan, True
    )
    bases = dict(plain.model.named_modules())
    layers = {name: module for name, module in wrapped.named_modules() if hasattr(module, "lora_A") and ".0." in name}
    assert len(layers) == 7
    for name, layer in layers.items():
        own = name.removeprefix("base_model.model.")
        weight = layer.base_layer.weight
        kept = bases[own].weight
        assert torch.equal(weight.data, kept.data)
        quantized = dequantize_4bit(weight.data, weight.quant_state).float()
        added = layer.scaling["default"] * (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).float()
        exact = source[f"{own}.weight"].cuda().float()
        assert (exact - quantized - added).norm() < 0.97 * (exact - quantized).norm()


@ENGINES
def test_a_loftq_adapter_trains_and_loads_as_any_other(engine: str, train: Train) -> None:
    sets = [f"engine={engine}", "load_in_4bit=true", "trainer.max_steps=2", "lora.init_lora_weights=loftq"]
    config = json.loads((train("sft-messages", *sets).adapter / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True  # plain PEFT loads it on the base that everyone has


def test_fp16_for_cards_without_bf16(train: Train) -> None:
    run = train(
        "sft-messages", "engine=peft", "dtype=fp16", "trainer.fp16=true", "trainer.bf16=false", "trainer.max_steps=12"
    )
    assert all(math.isfinite(loss) for loss in losses(run))
    assert losses(run, "eval_loss")[-1] < losses(run, "eval_loss")[0]
