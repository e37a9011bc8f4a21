"""Rows that last as long as their engine: added, taken out, and what a killed process left swept away."""

import json
import os
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Remote
from playground.engines.registry import Registration, check_names, sweep
from playground.errors import VariantError

ROW = Remote(name="qwen-vllm", url="http://127.0.0.1:8000/v1", model="qwen", base="qwen", key_env="MADANG_API_KEYS")
OTHER = Remote(name="qwen:one-vllm", url="http://127.0.0.1:8000/v1", model="qwen:one")


@pytest.fixture
def home(shelf: Any) -> Any:
    shelf.base()
    return shelf


def test_rows_come_and_go_and_the_file_is_as_before(home: Any) -> None:
    before = home.settings.catalogue.read_text(encoding="utf-8")
    registration = Registration(home.settings)
    registration.add([ROW, OTHER])
    assert home.catalogue.get("qwen-vllm") == ROW
    assert home.remotes == ["qwen-vllm", "qwen:one-vllm"]
    assert registration.remove() == []
    assert home.settings.catalogue.read_text(encoding="utf-8").rstrip() == before.rstrip()
    assert list((home.settings.data / "engines").glob("*.json")) == []
    assert registration.remove() == []


def test_a_row_that_someone_changed_stays(home: Any) -> None:
    registration = Registration(home.settings)
    registration.add([ROW, OTHER])
    mine = ROW.model_copy(update={"timeout_s": 5.0})
    variants.add(home.settings, mine, replace=True)
    variants.remove(home.settings, OTHER.name)
    assert registration.remove() == []
    assert home.catalogue.get("qwen-vllm") == mine


def test_a_row_that_stood_there_before_stays(home: Any) -> None:
    variants.add(home.settings, ROW)
    registration = Registration(home.settings)
    registration.add([ROW, OTHER])
    registration.remove()
    assert home.remotes == ["qwen-vllm"]


def test_kept_rows_stay(home: Any) -> None:
    registration = Registration(home.settings)
    registration.add([ROW])
    registration.keep()
    registration.remove()
    sweep(home.settings)
    assert home.remotes == ["qwen-vllm"]


def test_a_catalogue_that_is_broken_just_now_is_said(home: Any) -> None:
    registration = Registration(home.settings)
    registration.add([ROW])
    with home.settings.catalogue.open("a") as file:
        file.write("[[variant]\n")
    (fault,) = registration.remove()
    assert "qwen-vllm is still in the catalogue" in fault
    assert "madang models remove qwen-vllm" in fault


def test_rows_of_the_dead_are_swept_and_those_of_the_living_not(home: Any) -> None:
    registration = Registration(home.settings)
    registration.add([ROW])
    record = home.settings.data / "engines" / f"{os.getpid()}.json"
    sweep(home.settings)
    assert home.remotes == ["qwen-vllm"]
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"born": told["born"] - 3600}))  # the number belongs to another process now
    sweep(home.settings)
    assert home.remotes == []
    assert not record.exists()


def test_records_that_cannot_be_read_are_let_be(home: Any) -> None:
    folder = home.settings.data / "engines"
    folder.mkdir()
    for name, text in (("1.json", "{"), ("x.json", "{}"), ("2.json", '{"born": 0}')):
        (folder / name).write_text(text)
    sweep(home.settings)


def test_names_are_checked_before_anything_starts(home: Any) -> None:
    check_names(home.settings, [ROW, OTHER])
    variants.add(home.settings, ROW)
    check_names(home.settings, [ROW])  # word for word the same
    for rows in ([ROW.model_copy(update={"url": "http://127.0.0.1:1/v1"})], [OTHER, OTHER]):
        with pytest.raises(VariantError, match="already") as caught:
            check_names(home.settings, rows)
        assert "--name" in caught.value.hint


def test_a_kill_while_a_row_is_added_leaves_it_remembered(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: list[list[str]] = []

    def killed(settings: Any, row: Remote) -> None:
        (record,) = (settings.data / "engines").glob("*.json")
        remembered.append([one["name"] for one in json.loads(record.read_text())["rows"]])
        raise SystemExit

    monkeypatch.setattr("playground.engines.registry.variants.add", killed)
    with pytest.raises(SystemExit):
        Registration(home.settings).add([ROW])
    assert remembered == [[ROW.name]]
