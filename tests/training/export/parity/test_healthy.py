"""Healthy exports pass, and their numbers are where they should be."""

import shutil
from pathlib import Path

import pytest

from playground.catalogue.variants import Adapter
from training.export.parity.sessions import Session

from .conftest import Check, Made

pytestmark = pytest.mark.models
STEPS = ["files", "text", "numbers", "answers"]
SLOW = [pytest.param(level, marks=pytest.mark.slow) for level in ("q8_0", "q4_k_m")]


@pytest.mark.parametrize("level", ["merged", "f16", *SLOW])
def test_a_tiny_models_exports_pass(small: Made, check: Check, level: str) -> None:
    verdict = check(small.merged) if level == "merged" else check(small.file(level), level)
    assert (verdict.verdict, verdict.causes) == ("pass", []), "\n".join(verdict.lines)
    assert list(verdict.numbers) == STEPS
    assert verdict.numbers["files"]["adapter_times"] == pytest.approx(1, abs=0.02)
    assert verdict.model_dump(mode="json")["numbers"] == verdict.numbers


def test_an_adapters_copy_passes_and_another_fails(small: Made, small_session: Session, tmp_path: Path) -> None:
    copy = shutil.copytree(small.adapter, tmp_path / "copy")
    verdict = small_session.check(Adapter(name="copy", source=str(copy), base="tiny"), "adapter")
    assert verdict.verdict == "pass", "\n".join(verdict.lines)
    config = (copy / "adapter_config.json").read_text(encoding="utf-8").replace('"lora_alpha": 16', '"lora_alpha": 32')
    (copy / "adapter_config.json").write_text(config, encoding="utf-8")
    verdict = small_session.check(Adapter(name="copy", source=str(copy), base="tiny"), "adapter")
    assert (verdict.verdict, verdict.causes) == ("fail", ["hyperparameters"])


@pytest.mark.slow
@pytest.mark.parametrize("level", ["merged", "f16", "q8_0", "q4_k_m"])
def test_the_embedded_models_exports_pass(embedded: Made, check_embedded: Check, level: str) -> None:
    verdict = check_embedded(embedded.merged) if level == "merged" else check_embedded(embedded.file(level), level)
    assert (verdict.verdict, verdict.causes) == ("pass", []), "\n".join(verdict.lines)
    assert list(verdict.numbers) == STEPS
    kl = verdict.numbers["numbers"]["mean_kl"]
    assert kl < {"merged": 1e-5, "f16": 1e-4, "q8_0": 0.01, "q4_k_m": 0.12}[level]
