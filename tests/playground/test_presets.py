"""Presets have the numbers they are known by, and leave no field to an engine's own default."""

import tomllib

import pytest

from playground.errors import ConfigError, UnknownNameError
from playground.presets import DEFAULT_PRESET, PRESETS_FILE, Sampling, preset, presets, sampling

NOT_A_MATTER_OF_TASTE = {"seed", "stop"}


@pytest.mark.parametrize(
    ("name", "temperature", "top_p", "repetition_penalty"),
    [("factual", 0.1, 0.9, 1.0), ("balanced", 0.5, 0.9, 1.1), ("creative", 0.8, 0.95, 1.15)],
)
def test_numbers(name: str, temperature: float, top_p: float, repetition_penalty: float) -> None:
    found = preset(name)
    assert (found.temperature, found.top_p, found.repetition_penalty) == (temperature, top_p, repetition_penalty)
    assert (found.top_k, found.min_p, found.seed, found.stop) == (0, 0.0, None, ())


def test_every_preset_sets_every_field() -> None:
    rows = tomllib.loads(PRESETS_FILE.read_text(encoding="utf-8"))
    assert list(rows) == ["factual", "balanced", "creative"] == list(presets())
    for name, row in rows.items():
        assert set(row) == set(Sampling.model_fields) - NOT_A_MATTER_OF_TASTE, name


def test_the_default_preset_is_the_default_sampling() -> None:
    assert preset(DEFAULT_PRESET) == Sampling()


def test_an_unknown_preset_gets_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="'ballanced'") as caught:
        sampling("ballanced")
    assert caught.value.near == ["balanced"]


def test_single_fields_change_and_none_does_not() -> None:
    changed = sampling("creative", temperature="0.3", seed=7, top_p=None, stop=("a",))
    assert changed == preset("creative").model_copy(update={"temperature": 0.3, "seed": 7, "stop": ("a",)})


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        sampling("factual", temperature=-1, top_p=0, top_k="many", min_p=1, repetition_penalty=0, seed=2**32, topp=1)
    for field in ("temperature = -1", "top_p = 0", "top_k = 'many'", "min_p = 1", "repetition_penalty = 0", "topp = 1"):
        assert field in caught.value.message, field
    assert "seed = 4294967296" in caught.value.message


@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "repetition_penalty"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=field):
        sampling("balanced", **{field: value})


def test_greedy_is_temperature_zero_and_what_comes_to_the_same() -> None:
    assert sampling("balanced", temperature=0).greedy
    assert sampling("balanced", temperature=1e-40).greedy
    assert not sampling("balanced", temperature=1e-4).greedy
