"""From a catalogue row to what a worker loads: the right files, checked, and the right worker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import quantized
from playground.catalogue.hub import HubFile
from playground.catalogue.hub_search import HubModel
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.errors import VariantError
from playground.protocol import ModelSpec
from playground.settings import Settings
from playground.system import hardware
from playground.workers import memory
from playground.workers.loadable import Loader


class FakeHub:
    """Repositories as folders and files of this machine."""

    def __init__(self) -> None:
        self.repos: dict[str, Path] = {}
        self.listed: list[HubFile] = []
        self.asked: list[tuple[Any, ...]] = []

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        self.asked.append(("files", repo, revision, patterns))
        return self.listed

    def fetch_folder(self, repo: str, revision: str | None, progress: Callable[[float, str], None]) -> Path:
        self.asked.append(("folder", repo, revision))
        progress(1.0, repo)
        return self.repos[repo]

    def search(self, query: str) -> list[HubModel]:
        raise AssertionError("nobody searches")

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        return None

    def fetch_plan(self, repo: str, revision: str | None, progress: Callable[[float, str], None]) -> tuple[Path, int]:
        self.asked.append(("plan", repo, revision))
        return self.repos[repo], sum(file.size for file in self.listed if not file.cached)

    def fetch_file(
        self, repo: str, name: str | None, revision: str | None, progress: Callable[[float, str], None]
    ) -> Path:
        self.asked.append(("file", repo, name, revision))
        return self.repos[repo]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "vram_total", lambda: 0)


def loader(tmp_path: Path, hub: FakeHub, *variants: Base | Adapter | Gguf) -> Loader:
    return Loader(Settings(data=tmp_path, threads=3), Catalogue(variants), hub)


def test_a_local_base(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    folder = model_files.base(tmp_path / "b")
    base = Base(name="b", source=str(folder), dtype="fp32", context=128)
    found = loader(tmp_path, hub, base).loadable(base)
    assert found.spec == ModelSpec(
        engine="transformers", name="b", path=str(folder), dtype="fp32", context=128, threads=3
    )
    assert found.adapter is None
    assert hub.asked == []


def test_an_adapter_shares_its_bases_worker(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    base = Base(name="b", source=str(model_files.base(tmp_path / "b")))
    adapter = Adapter(name="a", source=str(model_files.adapter(tmp_path / "a")), base="b")
    load = loader(tmp_path, hub, base, adapter)
    found = load.loadable(adapter)
    assert found.spec == load.loadable(base).spec
    assert (found.adapter, found.apart) == (str(tmp_path / "a"), "")


@pytest.mark.parametrize(
    ("config", "context", "why"), [({"use_dora": True}, None, "DoRA"), ({}, 128, "context of its own")]
)
def test_an_adapter_that_answers_apart_from_its_base(
    config: dict[str, Any], context: int | None, why: str, tmp_path: Path, hub: FakeHub, model_files: Any
) -> None:
    base = Base(name="b", source=str(model_files.base(tmp_path / "b")), context=256)
    adapter = Adapter(name="a", source=str(model_files.adapter(tmp_path / "a", **config)), base="b", context=context)
    found = loader(tmp_path, hub, base, adapter).loadable(adapter)
    assert (found.spec.name, found.adapter) == ("a" if context else "b", str(tmp_path / "a"))
    assert found.spec.context == (context or 256)
    assert why in found.apart


def test_a_context_equal_to_the_bases_is_shared(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    base = Base(name="b", source=str(model_files.base(tmp_path / "b")), context=256)
    adapter = Adapter(name="a", source=str(model_files.adapter(tmp_path / "a")), base="b", context=256)
    assert loader(tmp_path, hub, base, adapter).loadable(adapter).adapter is not None


def test_everything_from_the_hub(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    hub.repos = {
        "o/base": model_files.base(tmp_path / "1"),
        "o/adapter": model_files.adapter(tmp_path / "2"),
        "o/gguf": model_files.gguf(tmp_path / "x.gguf"),
    }
    base = Base(name="b", source="o/base", revision="v1")
    adapter = Adapter(name="a", source="o/adapter", base="b")
    gguf = Gguf(name="g", source="o/gguf", file="x.gguf", revision="v2", gpu_layers=7)
    load = loader(tmp_path, hub, base, adapter, gguf)
    said: list[str] = []
    assert load.loadable(adapter, lambda done, what: said.append(what)).spec.path == str(tmp_path / "1")
    assert said == ["o/base", "o/adapter"]
    spec = load.loadable(gguf).spec
    assert (spec.engine, spec.path, spec.gpu_layers) == ("llama_cpp", str(tmp_path / "x.gguf"), 0)  # there is no card
    assert hub.asked == [("folder", "o/base", "v1"), ("folder", "o/adapter", None), ("file", "o/gguf", "x.gguf", "v2")]


def test_what_is_still_to_come_is_counted_with_the_base(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    base = Base(name="b", source="o/base")
    adapter = Adapter(name="a", source="o/adapter", base="b")
    gguf = Gguf(name="g", source="o/gguf", file="y.gguf")
    local = Gguf(name="l", source="/x/y.gguf")
    load = loader(tmp_path, hub, base, adapter, gguf, local)
    hub.listed = [HubFile("x.gguf", 5, False), HubFile("y.gguf", 7, False), HubFile("z.gguf", 100, True)]
    assert load.download_bytes(base) == 12
    assert load.download_bytes(adapter) == 24
    assert load.download_bytes(gguf) == 7
    assert load.download_bytes(local) == 0
    assert hub.asked[0] == ("files", "o/base", None, None)
    assert hub.asked[-1] == ("files", "o/gguf", None, ["*.gguf"])


def test_a_folder_of_ggufs(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    folder = tmp_path / "builds"
    one = model_files.gguf(folder / "one.gguf")
    gguf = Gguf(name="g", source=str(folder))
    load = loader(tmp_path, hub, gguf)
    assert load.loadable(gguf).spec.path == str(one)
    two = model_files.gguf(folder / "two.gguf")
    with pytest.raises(VariantError, match="one.gguf, two.gguf") as caught:
        load.loadable(gguf)
    assert "`file`" in caught.value.hint
    assert load.loadable(gguf.model_copy(update={"file": "two.gguf"})).spec.path == str(two)
    with pytest.raises(VariantError, match="three.gguf does not exist"):
        load.loadable(gguf.model_copy(update={"file": "three.gguf"}))
    empty = gguf.model_copy(update={"source": str(tmp_path / "empty")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(VariantError, match="GGUF files: none"):
        load.loadable(empty)


def test_broken_files_are_refused_before_any_engine(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    folder = model_files.base(tmp_path / "b")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    base = Base(name="b", source=str(folder))
    adapter = Adapter(name="a", source=str(model_files.adapter(tmp_path / "a")), base="b")
    for variant in (base, adapter):
        with pytest.raises(VariantError, match="cut short"):
            loader(tmp_path, hub, base, adapter).loadable(variant)


def test_four_bits_need_a_card(tmp_path: Path, hub: FakeHub, model_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Base(name="b", source=str(model_files.base(tmp_path / "b")), load_in_4bit=True)
    gguf = Gguf(name="g", source=str(model_files.gguf(tmp_path / "x.gguf")))
    load = loader(tmp_path, hub, base, gguf)
    with pytest.raises(VariantError, match="load_in_4bit") as caught:
        load.loadable(base)
    assert "Q4_K_M" in caught.value.hint
    monkeypatch.setattr(hardware, "vram_total", lambda: 8 * hardware.GIB)
    assert load.loadable(base).spec.load_in_4bit
    assert load.loadable(gguf).spec.gpu_layers == "auto"


def test_fakes_need_no_files(tmp_path: Path, hub: FakeHub) -> None:
    base = Base(name="b", source="fake:b")
    adapter = Adapter(name="a", source="fake:a", base="b")
    load = loader(tmp_path, hub, base, adapter)
    assert load.loadable(adapter).spec == load.loadable(base).spec
    assert load.loadable(adapter).adapter == "fake:a"
    assert load.download_bytes(adapter) == 0


def test_shards_are_counted_together(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path / "split")
    local = Gguf(name="g", source=str(tmp_path / "split"))
    there = Gguf(name="h", source="o/gguf", file="x-00001-of-00003.gguf")
    load = loader(tmp_path, hub, local, there)
    spec = load.loadable(local).spec
    assert spec.path == str(shards[0])
    whole = model_files.gguf(tmp_path / "whole.gguf", tensors={"a": (8, 8)})
    alone = memory.need(spec.model_copy(update={"path": str(whole)}))
    more = sum(path.stat().st_size for path in shards) - whole.stat().st_size
    assert memory.need(spec).ram == pytest.approx(alone.ram + 1.1 * more, abs=2)
    hub.listed = [HubFile(path.name, 5, cached=path is shards[1]) for path in shards]
    assert load.download_bytes(there) == 10
    shards[2].unlink()
    with pytest.raises(VariantError, match="x-00003-of-00003.gguf"):
        load.loadable(local)


def test_a_base_is_described_without_its_weights(tmp_path: Path, hub: FakeHub, model_files: Any) -> None:
    whole = Base(name="w", source=str(model_files.base(tmp_path / "whole")))
    bare = Base(name="b", source=str(model_files.base(tmp_path / "bare")))
    (bare.path / "model.safetensors").unlink()
    some = Base(name="s", source=str(model_files.sharded(tmp_path / "some")))
    (some.path / "model-00001-of-00004.safetensors").unlink()
    index = some.path / "model.safetensors.index.json"
    far = Base(name="f", source="o/far")
    hub.repos, hub.listed = {"o/far": bare.path}, [HubFile("model.safetensors", 77, False)]
    load = loader(tmp_path, hub, whole, bare, some, far)
    assert load.described(whole) == (whole.path, 0)
    assert load.described(bare) == (bare.path, None)
    assert load.described(far) == (bare.path, 77)
    assert load.described(some) == (some.path, None)
    here = sum(path.stat().st_size for path in some.path.glob("*.safetensors"))
    model_files.json(index, json.loads(index.read_text()) | {"metadata": {"total_size": here + 5}})
    assert load.described(some) == (some.path, 5)
    assert [what for what, *_ in hub.asked] == ["plan"]
    (bare.path / "pytorch_model.bin").touch()
    with pytest.raises(VariantError, match="pickled weights alone"):
        load.described(bare)
    (whole.path / "tokenizer.json").unlink()
    with pytest.raises(VariantError, match="no tokenizer"):
        load.described(whole)


def test_what_cannot_run_is_told_before_its_weights_come(
    tmp_path: Path, hub: FakeHub, model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "_installed", lambda package: False)
    hub.repos = {"o/awq": model_files.base(tmp_path / "awq", quantization_config={"quant_method": "awq"})}
    hub.listed = [HubFile("model.safetensors", 77, False)]
    base = Base(name="b", source="o/awq")
    adapter = Adapter(name="a", source="o/lora", base="b")
    for variant in (base, adapter):
        with pytest.raises(VariantError, match="gptqmodel"):
            loader(tmp_path, hub, base, adapter).foreseen(variant)
    assert {what for what, *_ in hub.asked} == {"plan"}


def test_an_adapters_own_template_stands_above_its_bases_named_format(
    tmp_path: Path, hub: FakeHub, model_files: Any
) -> None:
    base = Base(name="b", source=str(model_files.base(tmp_path / "b")), prompt_format="alpaca")
    bare = Adapter(name="b:bare", source=str(model_files.adapter(tmp_path / "bare")), base="b")
    own = Adapter(name="b:own", source=str(model_files.adapter(tmp_path / "own")), base="b")
    (tmp_path / "own" / "chat_template.jinja").write_text("{{ messages }}")
    named = own.model_copy(update={"name": "b:named", "prompt_format": "chatml"})
    far = own.model_copy(update={"name": "b:far", "source": "o/own"})
    hub.repos = {"o/own": tmp_path / "own"}
    built = Gguf(name="b:own:q8", source=str(model_files.gguf(tmp_path / "x.gguf")), base="b:own")
    load = loader(tmp_path, hub, base, bare, own, named, far, built)
    asked = {variant.name: load.loadable(variant).prompt_format for variant in (base, bare, own, named, far, built)}
    assert asked == {
        "b": "alpaca",
        "b:bare": "alpaca",
        "b:own": None,
        "b:named": "chatml",
        "b:far": None,
        "b:own:q8": None,
    }
