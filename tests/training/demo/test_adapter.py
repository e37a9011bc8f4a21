"""The shipped adapter: small, the one that was recorded, without a machine's paths; and its habit, end to end."""

import hashlib
import json
from pathlib import Path

import pytest

from training.demo.examples import habit_share, held_out_prompts
from training.demo.measure import measure
from training.demo.prepare import ADAPTER_CARD, SHIPPED_ADAPTER
from training.demo.train import CONFIG, LORA, SUMS, WEIGHTS
from training.demo.unpack import UPSTREAM


def test_it_is_ten_megabytes_at_most() -> None:
    assert sum(file.stat().st_size for file in SHIPPED_ADAPTER.iterdir()) <= 10_000_000


def test_it_is_what_training_recorded() -> None:
    lines = [line.split() for line in (SHIPPED_ADAPTER / SUMS).read_text().splitlines()]
    recorded = {name: checksum for checksum, name in lines}
    found = {name: hashlib.sha256((SHIPPED_ADAPTER / name).read_bytes()).hexdigest() for name in (CONFIG, WEIGHTS)}
    assert found == recorded


def test_its_config_names_the_upstream_base_and_no_path() -> None:
    config = json.loads((SHIPPED_ADAPTER / CONFIG).read_text())
    assert config["base_model_name_or_path"] == UPSTREAM
    assert {key: config[key] for key in LORA} == LORA
    assert not [value for value in config.values() if isinstance(value, str) and value.startswith(("/", "~", "C:"))]


def test_it_has_a_card() -> None:
    assert (SHIPPED_ADAPTER / ADAPTER_CARD).is_file()


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(1800)
def test_the_habit_is_learnt_and_survives_quantization(demo_models: Path) -> None:
    prompts = held_out_prompts()[::2]  # `python -m training.demo.measure` asks them all
    share = {name: habit_share(answers) for name, answers in measure(demo_models, prompts)}
    assert share["smollm2"] < 0.10
    assert share["smollm2:demo"] >= 0.90
    assert share["smollm2:demo:Q4_K_M"] >= share["smollm2:demo"] - 0.05
