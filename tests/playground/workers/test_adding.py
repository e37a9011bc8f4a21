"""What was found on this machine comes into the catalogue: checked, its base first, its files where they are."""

from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.discovery.offers import Offer, look_around, offers
from playground.catalogue.hub import HuggingFaceHub
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.errors import VariantError
from playground.settings import Settings
from playground.workers.adding import add
from playground.workers.loadable import Loader
from tests.playground.machine import Machine


def offered(settings: Settings, name: str) -> tuple[Loader, Offer]:
    catalogue = Catalogue.load(settings)
    by_name = {one.name: one for one in offers(look_around(), catalogue)}
    return Loader(settings, catalogue, HuggingFaceHub()), by_name[name]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data=tmp_path / "data")


def test_an_adapter_of_the_cache_comes_with_its_base_and_without_the_network(
    machine: Machine, settings: Settings, tmp_path: Path, model_files: Any
) -> None:
    machine.cache_files(machine.cached("owner/base"), model_files.base(tmp_path / "base"))
    machine.cache_files(machine.cached("owner/lora"), model_files.adapter(tmp_path / "lora"))
    loader, offer = offered(settings, "base:lora")
    done = add(loader, offer)
    assert [one.name for one in done] == ["base", "base:lora"]
    assert done[0].remarks[0].key == "remark.no_template"
    catalogue = Catalogue.load(settings)
    assert catalogue.get("base") == Base(name="base", source="owner/base")
    assert catalogue.get("base:lora") == Adapter(name="base:lora", source="owner/lora", base="base")
    found = Loader(settings, catalogue, HuggingFaceHub())
    assert found.download_bytes(catalogue.get("base:lora")) == 0


def test_a_blob_of_ollama_is_a_gguf_where_it_lies(machine: Machine, settings: Settings) -> None:
    raw = machine.raw_gguf()
    machine.pulled("m:1", {"model": raw, "template": b"{{ .Prompt }}", "params": b'{"num_ctx": 4096}'})
    loader, offer = offered(settings, "m:1")
    (done,) = add(loader, offer)
    assert [remark.key for remark in done.remarks][:2] == ["found.ollama_template", "found.ollama_params"]
    row = Catalogue.load(settings).get("m:1")
    assert row == Gguf(name="m:1", source=offer.found.source, context=4096)
    assert isinstance(row, Gguf)
    assert row.path.read_bytes() == raw


def test_what_does_not_pass_its_check_is_not_written(machine: Machine, settings: Settings, model_files: Any) -> None:
    path = model_files.gguf(machine.lm_studio / "owner" / "M" / "M.gguf")
    path.write_bytes(path.read_bytes()[:-8])
    loader, offer = offered(settings, "M")
    with pytest.raises(VariantError):
        add(loader, offer)
    assert "M" not in Catalogue.load(settings).names
