"""Models that other programs keep on this machine: what is found, what is said, and under which names it is offered."""

import os
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.discovery import reading
from playground.catalogue.discovery.found import Found, Look
from playground.catalogue.discovery.offers import Offer, look_around, named, offers, row
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.errors import ConfigError, VariantError
from playground.settings import Settings
from tests.playground.machine import COMMIT, Machine


def found(folder: str = "") -> dict[str, Found]:
    return {one.title: one for one in look_around(folder).found}


def why(one: Found | Offer) -> str:
    return one.obstacle.key if one.obstacle else ""


def test_a_machine_without_any_of_the_programs_has_nothing(machine: Machine) -> None:
    assert look_around() == Look()


class TestHubCache:
    def test_models_adapters_and_ggufs_are_told_apart(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        machine.cache_files(machine.cached("owner/base"), model_files.sharded(tmp_path / "base"))
        machine.cache_files(machine.cached("owner/lora"), model_files.adapter(tmp_path / "lora"))
        model_files.gguf(tmp_path / "gguf" / "m-Q4_K_M.gguf")
        model_files.gguf(tmp_path / "gguf" / "mmproj-m.gguf")
        machine.cache_files(machine.cached("owner/m-GGUF"), tmp_path / "gguf")
        seen = found()
        assert {title: one.kind for title, one in seen.items()} == {
            "owner/base": "base",
            "owner/lora": "adapter",
            "owner/m-GGUF/m-Q4_K_M.gguf": "gguf",
        }
        assert {why(one) for one in seen.values()} == {""}
        gguf = seen["owner/m-GGUF/m-Q4_K_M.gguf"]
        assert (gguf.source, gguf.file, gguf.revision) == ("owner/m-GGUF", "m-Q4_K_M.gguf", None)
        assert gguf.size == (tmp_path / "gguf" / "m-Q4_K_M.gguf").stat().st_size
        assert seen["owner/lora"].base == "owner/base"

    @pytest.mark.parametrize("gone", ["model-00001-of-00004.safetensors", "*.safetensors"])
    def test_what_was_interrupted_is_said_and_not_offered(
        self, machine: Machine, tmp_path: Path, model_files: Any, gone: str
    ) -> None:
        whole = model_files.sharded(tmp_path / "base")
        for path in list(whole.glob(gone)):
            path.unlink()
        machine.cache_files(machine.cached("owner/half"), whole)
        one = found()["owner/half"]
        assert why(one) in ("found.fault", "found.incomplete")

    def test_gguf_shards_are_one_and_a_missing_one_is_said(
        self, machine: Machine, tmp_path: Path, model_files: Any
    ) -> None:
        shards = model_files.gguf_shards(tmp_path / "s")
        machine.cache_files(machine.cached("owner/whole"), tmp_path / "s")
        shards[1].unlink()
        machine.cache_files(machine.cached("owner/half"), tmp_path / "s")
        seen = {one.source: one for one in found().values()}
        assert len(seen) == 2
        assert why(seen["owner/whole"]) == ""
        assert why(seen["owner/half"]) == "found.shards"

    def test_another_revision_is_named(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        base = model_files.base(tmp_path / "base")
        machine.cache_files(machine.cached("owner/tagged", ref="v2"), base)
        snapshot = machine.cached("owner/commit")
        machine.cache_files(snapshot, base)
        (snapshot.parents[1] / "refs" / "main").unlink()
        seen = found()
        assert (seen["owner/tagged"].revision, seen["owner/commit"].revision) == ("v2", COMMIT)

    def test_encoders_pickles_and_damaged_repositories_are_said(
        self, machine: Machine, tmp_path: Path, model_files: Any
    ) -> None:
        bert = model_files.base(tmp_path / "bert", architectures=["BertForMaskedLM"], model_type="bert")
        machine.cache_files(machine.cached("owner/bert"), bert)
        pickled = model_files.base(tmp_path / "pickled")
        (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
        machine.cache_files(machine.cached("owner/pickled"), pickled)
        snapshot = machine.cached("owner/damaged")
        (snapshot / "config.json").symlink_to("../../blobs/gone")
        look = look_around()
        assert {one.title: why(one) for one in look.found} == {
            "owner/bert": "found.fault",
            "owner/pickled": "found.fault",
        }
        assert [said.key for said in look.said] == ["found.damaged_cache"]
        assert "owner--damaged" in str(look.said[0].values["why"])

    def test_data_sets_are_passed_over(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        machine.cache_files(machine.cached("owner/base"), model_files.base(tmp_path / "base"))
        (machine.cache / "models--owner--base").rename(machine.cache / "datasets--owner--base")
        assert look_around() == Look()

    def test_a_repository_that_may_not_be_read_hides_no_other(
        self, machine: Machine, tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("closed", "open"):
            machine.cache_files(machine.cached(f"owner/{name}"), model_files.base(tmp_path / name))
        refuse(monkeypatch, "models--owner--closed")
        look = look_around()
        assert [one.title for one in look.found] == ["owner/open"]
        assert [(said.key, Path(str(said.values["path"])).name) for said in look.said] == [
            ("found.closed", "models--owner--closed")
        ]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the system refuse a folder of that name, whoever runs the tests."""

    def refusing(real: Any) -> Any:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if not isinstance(path, int) and name in os.path.realpath(os.fspath(path)):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return real(path, *arguments, **options)

        return call

    for function in ("scandir", "listdir"):
        monkeypatch.setattr(os, function, refusing(getattr(os, function)))


class TestOllama:
    def test_names_are_as_ollama_says_them(self, machine: Machine) -> None:
        raw = machine.raw_gguf()
        machine.pulled("llama3.2:3b", {"model": raw})
        machine.pulled("someone/llama3.2:latest", {"model": raw})
        machine.pulled("owner/Model-GGUF:Q4_K_M", {"model": raw}, host="hf.co")
        seen = found()
        assert sorted(seen) == ["hf.co/owner/Model-GGUF:Q4_K_M", "llama3.2:3b", "someone/llama3.2:latest"]
        one = seen["llama3.2:3b"]
        assert (one.kind, one.size, why(one)) == ("gguf", len(raw), "")
        assert Path(one.source) == one.path
        assert one.path.read_bytes() == raw

    def test_what_is_heeded_of_its_layers_is_said(self, machine: Machine) -> None:
        layers = {
            "model": machine.raw_gguf(),
            "template": b"{{ .Prompt }}",
            "params": b'{"num_ctx": 4096, "stop": ["</s>"]}',
            "system": b"Be brief.",
            "license": b"MIT",
        }
        machine.pulled("m:latest", layers)
        one = found()["m:latest"]
        assert [note.key for note in one.notes] == [
            "found.ollama_template",
            "found.ollama_params",
            "found.ollama_system",
        ]
        assert one.context == 4096

    def test_half_a_pull_a_cloud_model_and_an_adapter_are_not_offered(self, machine: Machine) -> None:
        machine.pulled("half:1", {"model": machine.raw_gguf()})
        blob = found()["half:1"].path
        blob.write_bytes(blob.read_bytes()[:-1])
        machine.pulled("cloud:1", {"license": b"MIT"})
        machine.pulled("pieces:1", {"tensor; name=a; dtype=F16": b"1"})
        machine.pulled("own:1", {"model": machine.raw_gguf(general__name="b"), "adapter": b"GGUF"})
        assert {title: why(one) for title, one in found().items()} == {
            "half:1": "found.incomplete",
            "cloud:1": "found.ollama_no_model",
            "pieces:1": "found.ollama_tensors",
            "own:1": "found.ollama_adapter",
        }

    @pytest.mark.parametrize(
        "manifest",
        [
            "",
            "[]",
            "{",
            '{"layers": 3}',
            '{"layers": [null, {"mediaType": 4}]}',
            "[" * 100_000,
            '{"a": "' + "x" * 2**21,
        ],
    )
    def test_a_manifest_that_is_none_is_nothing(self, machine: Machine, manifest: str) -> None:
        machine.pulled("m:1", {"model": machine.raw_gguf()}).write_text(manifest, encoding="utf-8")
        assert found() == {}

    def test_a_digest_leads_nowhere_else(self, machine: Machine) -> None:
        manifest = machine.pulled("m:1", {"model": machine.raw_gguf()})
        digest = manifest.read_text(encoding="utf-8").split("sha256:")[-1].split('"')[0]
        manifest.write_text(
            manifest.read_text(encoding="utf-8").replace(f"sha256:{digest}", "sha256:../../../etc/passwd")
        )
        assert why(found()["m:1"]) == "found.incomplete"

    def test_its_own_variable_names_the_folder(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.pulled("m:1", {"model": machine.raw_gguf()})
        machine.ollama.rename(machine.home / "elsewhere")
        assert found() == {}
        monkeypatch.setenv("OLLAMA_MODELS", str(machine.home / "elsewhere"))
        assert list(found()) == ["m:1"]

    def test_a_folder_of_another_user_is_said(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.pulled("m:1", {"model": machine.raw_gguf()})
        refuse(monkeypatch, ".ollama")
        assert [said.key for said in look_around().said] == ["found.closed"]


class TestFolders:
    def test_lm_studio_keeps_owner_and_name(self, machine: Machine, model_files: Any) -> None:
        model_files.gguf(machine.lm_studio / "owner" / "M-GGUF" / "M-Q4_K_M.gguf")
        model_files.gguf(machine.lm_studio / "owner" / "M-GGUF" / "mmproj-M-f16.gguf")
        model_files.base(machine.lm_studio / "mlx" / "M-4bit", quantization={"bits": 4})
        old = machine.home / ".cache" / "lm-studio" / "models" / "owner" / "old"
        model_files.gguf(old / "old.gguf")
        assert {title: why(one) for title, one in found().items()} == {
            "owner/M-GGUF/M-Q4_K_M.gguf": "",
            "mlx/M-4bit": "found.fault",
            "owner/old/old.gguf": "",
        }

    def test_its_settings_name_another_folder(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        model_files.gguf(tmp_path / "disk" / "owner" / "M" / "M.gguf")
        moved = machine.home / "moved"
        moved.mkdir()
        (machine.home / ".lmstudio-home-pointer").write_text(f"{moved}\n", encoding="utf-8")
        model_files.json(moved / "settings.json", {"downloadsFolder": str(tmp_path / "disk")})
        assert list(found()) == ["owner/M/M.gguf"]

    def test_what_is_no_model_by_name_or_header(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        folder = tmp_path / "mine"
        shards = model_files.gguf_shards(folder / "split")
        model_files.gguf(folder / "sees.gguf", fields={"general.architecture": "clip"})
        model_files.gguf(folder / "lora.gguf", fields={"general.type": "adapter", "general.architecture": "llama"})
        model_files.gguf(folder / "imatrix.gguf")
        (folder / "pointer.gguf").write_bytes(b"version https://git-lfs")
        (folder / "._m.gguf").write_bytes(b"macOS")
        seen = found(str(folder))
        assert {title: why(one) for title, one in seen.items()} == {
            "sees.gguf": "found.beside",
            "lora.gguf": "found.beside",
            "pointer.gguf": "found.no_gguf",
            "split/x (3)": "",
        }
        assert seen["split/x (3)"].source == str(shards[0])

    def test_links_in_a_ring_end(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        folder = tmp_path / "mine"
        model_files.gguf(folder / "a" / "m.gguf")
        (folder / "a" / "up").symlink_to(folder)
        (folder / "ring").symlink_to(folder / "ring")
        (folder / "again").symlink_to(folder / "a")
        assert [one.obstacle for one in look_around(str(folder)).found] == [None]

    def test_a_folder_that_is_none_is_said(self, machine: Machine) -> None:
        with pytest.raises(ConfigError, match="is no folder"):
            look_around("/nowhere/at/all")

    def test_ten_thousand_files_are_named_and_no_more_than_their_beginnings_read(
        self, machine: Machine, tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "many"
        model = model_files.gguf(folder / "m.gguf")
        for number in range(10_000):
            (folder / f"n{number}{'.gguf' if number % 10 == 0 else '.txt'}").hardlink_to(model)
        opened: list[str] = []
        real = Path.open

        def opening(path: Path, *arguments: Any, **options: Any) -> Any:
            opened.append(path.suffix)
            return real(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", opening)
        assert len(look_around(str(folder)).found) == opened.count(".gguf") == 1001
        assert ".txt" not in opened

    def test_a_disk_without_end_ends(self, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "MOST_NAMES", 5)
        for number in range(9):
            (tmp_path / f"{number}.txt").touch()
        assert [said.key for said in look_around(str(tmp_path)).said] == ["found.too_many"]


def catalogue(tmp_path: Path, *rows: variants.Variant) -> Catalogue:
    settings = Settings(data=tmp_path / "data")
    settings.data.mkdir(exist_ok=True)
    for one in rows:
        variants.add(settings, one)
    return Catalogue.load(settings)


class TestOffers:
    @pytest.mark.parametrize(
        ("place", "title", "kind", "file", "name"),
        [
            ("hub", "owner/Model-1.5B", "base", None, "Model-1.5B"),
            ("hub", "owner/M-GGUF/q4/M-Q4.gguf", "gguf", "q4/M-Q4.gguf", "M-Q4"),
            ("ollama", "llama3.2:3b", "gguf", None, "llama3.2:3b"),
            ("ollama", "someone/m:latest", "gguf", None, "m"),
            ("lm_studio", "owner/M-GGUF/M-Q8_0.gguf", "gguf", None, "M-Q8_0"),
            ("folder", "한글 모델 (1).gguf", "gguf", None, "한글-모델-1"),
            ("folder", "--.gguf", "gguf", None, "model"),
        ],
    )
    def test_names_come_from_the_files(self, place: str, title: str, kind: str, file: str | None, name: str) -> None:
        assert named(Found(place, title, kind, "s", Path("p"), 1, file=file)) == name

    def test_a_clash_gets_another_name(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        for folder in ("a", "b"):
            model_files.gguf(tmp_path / "mine" / folder / "smollm2.gguf")
        made = offers(look_around(str(tmp_path / "mine")), catalogue(tmp_path))
        assert [one.name for one in made] == ["smollm2-2", "smollm2-3"]

    def test_what_is_in_the_catalogue_is_marked(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        folder = tmp_path / "mine"
        path = model_files.gguf(folder / "m.gguf")
        model_files.gguf(folder / "n.gguf")
        machine.cache_files(machine.cached("owner/base"), model_files.base(tmp_path / "base"))
        (tmp_path / "link").symlink_to(folder)
        rows = (
            Gguf(name="mine", source=str(tmp_path / "link"), file=path.name),
            Base(name="hub", source="owner/base"),
        )
        made = offers(look_around(str(folder)), catalogue(tmp_path, *rows))
        assert {one.name: one.listed for one in made} == {"mine": True, "n": False, "hub": True}
        with pytest.raises(VariantError, match="not offered"):
            row(next(one for one in made if one.listed))

    def test_an_adapter_brings_its_base(self, machine: Machine, tmp_path: Path, model_files: Any) -> None:
        machine.cache_files(machine.cached("owner/lora"), model_files.adapter(tmp_path / "lora"))
        alone = offers(look_around(), catalogue(tmp_path))
        assert [why(one) for one in alone] == ["found.no_base"]
        machine.cache_files(machine.cached("owner/base"), model_files.base(tmp_path / "base"))
        base, adapter = offers(look_around(), catalogue(tmp_path))
        assert (adapter.name, adapter.base, adapter.needs) == ("base:lora", "base", base.found)
        assert row(base) == Base(name="base", source="owner/base")
        assert row(adapter) == Adapter(name="base:lora", source="owner/lora", base="base")
        known = offers(look_around(), catalogue(tmp_path, Base(name="b", source="Owner/Base")))
        assert [(one.name, one.base) for one in known][-1] == ("b:lora", "b")

    def test_the_same_files_by_two_ways_are_told_once(self, machine: Machine, model_files: Any) -> None:
        model_files.gguf(machine.lm_studio / "owner" / "M" / "M.gguf")
        look = look_around(str(machine.lm_studio))
        assert len(look.found) == 2
        assert len(offers(look, Catalogue([]))) == 1
