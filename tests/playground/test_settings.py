"""Settings: from the environment and from flags, all faults at once."""

from pathlib import Path

import pytest

from playground.errors import ConfigError
from playground.settings import Settings, key_in, load_settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MADANG_{name.upper()}", raising=False)


def test_defaults_stay_on_this_machine() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.mode) == ("127.0.0.1", 7860, "local")
    assert settings.data.is_absolute()


def test_flags_stand_above_the_environment_and_none_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_PORT", "9001")
    monkeypatch.setenv("MADANG_DATA", str(tmp_path))
    monkeypatch.setenv("MADANG_RAM_BUDGET_GB", "1.5")
    settings = load_settings(port=None, host="0.0.0.0")
    assert (settings.port, settings.host, settings.ram_budget_gb) == (9001, "0.0.0.0", 1.5)
    assert settings.catalogue == tmp_path / "variants.toml"
    assert settings.models_dir == tmp_path / "models"
    assert settings.logs_dir == tmp_path / "logs"
    assert load_settings(port=9002).port == 9002


def test_a_data_folder_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("MADANG_DATA", "~/madang")
    assert load_settings().data == tmp_path / "home" / "madang"
    assert load_settings(data="here").data == tmp_path / "here"


def test_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_PORT", "seventy")
    monkeypatch.setenv("MADANG_LANGUAGE", "jp")
    with pytest.raises(ConfigError) as caught:
        load_settings(threads=0, ram_budget_gb=-1, prot=1)
    for fault in ("port = 'seventy'", "language = 'jp'", "threads = 0", "ram_budget_gb = -1", "prot = 1"):
        assert fault in caught.value.message, fault
    assert "MADANG_" in caught.value.hint


@pytest.mark.parametrize("port", [0, 65_536, -1])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ConfigError, match="port"):
        load_settings(port=port)


def test_only_variables_that_the_owner_allows_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    assert key_in("OPENAI_API_KEY") == "secret"
    assert key_in("NOT_SET_API_KEY") == ""
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HOME"):
        with pytest.raises(ConfigError, match=f"{name} may not be sent") as caught:
            key_in(name)
        assert "MADANG_KEY_VARIABLES" in caught.value.hint
    monkeypatch.setenv("MADANG_KEY_VARIABLES", "*_API_KEY, HF_TOKEN")
    assert key_in("HF_TOKEN") == "secret"
