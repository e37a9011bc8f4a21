"""From catalogue rows to vLLM's command line, word for word; what vLLM cannot serve is refused with a way out."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from playground.engines import vllm
from playground.engines.plan import Plan, Wish
from playground.errors import ConfigError, MadangError, VariantError
from playground.prompts import prompt_format
from playground.settings import Settings


class Nowhere:
    """A hub that must not be asked, but for the folders put here."""

    def __init__(self, folders: dict[str, Path] | None = None) -> None:
        self.folders = folders or {}

    def fetch_folder(self, repo: str, revision: str | None, progress: Any) -> Path:
        return self.folders[f"{repo}@{revision}"]


NOWHERE = Nowhere()


def made(shelf: Any, *names: str, hub: Any = NOWHERE, **wish: Any) -> tuple[Plan, list[str]]:
    settings = wish.pop("settings", shelf.settings)
    return vllm.make(shelf.catalogue, hub, list(names), Wish(settings, **wish))


def words(shelf: Any, *names: str, **wish: Any) -> list[str]:
    return list(made(shelf, *names, **wish)[0].command)


def after(command: list[str], flag: str) -> str:
    assert command.count(flag) == 1, command
    return command[command.index(flag) + 1]


def test_a_base_alone(shelf: Any) -> None:
    folder = shelf.base()
    settings = shelf.using(port=8001)
    assert words(shelf, "qwen", settings=settings) == [
        *("vllm", "serve", str(folder), "--served-model-name", "qwen", "--host", "127.0.0.1", "--port", "8001"),
        *("--dtype", "auto", "--max-model-len", "auto", "--allowed-origins", "[]"),
    ]


def test_a_base_takes_its_adapters_along_and_named_ones_come_alone(shelf: Any) -> None:
    shelf.base()
    one, two = shelf.adapter("qwen:one", r=8), shelf.adapter("qwen:two", r=20)
    shelf.base("other")
    shelf.adapter("other:one", base="other", r=64)
    command = words(shelf, "qwen")
    at = command.index("--enable-lora")
    assert command[at:] == [
        *("--enable-lora", "--max-lora-rank", "32", "--max-loras", "2"),
        *("--lora-modules", f"qwen:one={one}", f"qwen:two={two}"),
    ]
    command = words(shelf, "qwen:one")
    assert command[2].endswith("/qwen")
    assert command[command.index("--max-lora-rank") :] == [
        *("--max-lora-rank", "8", "--max-loras", "1", "--lora-modules", f"qwen:one={one}")
    ]
    assert "--enable-lora" not in words(shelf, "qwen", adapters=False)


def test_every_served_model_is_a_row_at_the_address(shelf: Any) -> None:
    shelf.base(row="context = 2048")
    shelf.adapter("qwen:one")
    plan, _ = made(shelf, "qwen", settings=shelf.using(host="0.0.0.0", port=8123))
    assert plan.address == "http://127.0.0.1:8123"
    assert [row.model_dump(exclude_defaults=True) for row in plan.rows] == [
        {"name": f"{name}-vllm", "url": "http://127.0.0.1:8123/v1", "model": name, "base": name} | extra
        for name, extra in (("qwen", {"context": 2048}), ("qwen:one", {}))
    ]
    assert all(row.key_env is None for row in plan.rows)


@pytest.mark.parametrize(("rank", "asked"), [(1, "1"), (2, "8"), (16, "16"), (129, "256"), (257, "320"), (512, "512")])
def test_the_rank_is_rounded_up_to_what_vllm_takes(rank: int, asked: str, shelf: Any) -> None:
    shelf.base()
    shelf.adapter("qwen:one", r=rank)
    assert after(words(shelf, "qwen:one"), "--max-lora-rank") == asked


@pytest.mark.parametrize(
    ("row", "config", "flag", "value"),
    [
        ("dtype = 'bf16'", {}, "--dtype", "bfloat16"),
        ("dtype = 'fp16'", {}, "--dtype", "float16"),
        ("dtype = 'fp32'", {}, "--dtype", "float32"),
        ("context = 8192", {}, "--max-model-len", "8192"),
        ("load_in_4bit = true", {}, "--quantization", "bitsandbytes"),
        ("", {"quantization_config": {"quant_method": "compressed-tensors"}}, "--quantization", "compressed-tensors"),
        ("", {"quantization_config": {"quant_method": "bitsandbytes"}}, "--quantization", "bitsandbytes"),
    ],
)
def test_a_row_s_fields_become_flags(row: str, config: dict[str, Any], flag: str, value: str, shelf: Any) -> None:
    shelf.base(row=row, **config)
    assert after(words(shelf, "qwen"), flag) == value


def test_other_quantizations_are_left_to_vllm(shelf: Any) -> None:
    shelf.base(quantization_config={"quant_method": "fp8"})
    assert "--quantization" not in words(shelf, "qwen")


def test_hub_ids_go_to_vllm_with_their_revision(shelf: Any, tmp_path: Path, model_files: Any) -> None:
    shelf.add("far", "base", "source = 'owner/far'\nrevision = 'abc'")
    shelf.add("far:one", "adapter", "source = 'owner/lora'\nrevision = 'v2'\nbase = 'far'")
    lora = model_files.adapter(tmp_path / "fetched")
    command = words(shelf, "far", hub=Nowhere({"owner/lora@v2": lora}))
    assert command[:3] == ["vllm", "serve", "owner/far"]
    assert (after(command, "--revision"), after(command, "--tokenizer-revision")) == ("abc", "abc")
    assert command[-1] == f"far:one={lora}"


def test_a_named_prompt_format_is_a_template_file(shelf: Any) -> None:
    shelf.base(template=False, row="prompt_format = 'alpaca'")
    shelf.adapter("qwen:one")
    file = Path(after(words(shelf, "qwen"), "--chat-template"))
    assert file.read_text(encoding="utf-8") == prompt_format("alpaca").template
    assert file.is_relative_to(shelf.settings.data)
    assert "--enable-tokenizer-info-endpoint" in words(shelf, "qwen")  # where the format's end of a turn is read
    shelf.base("other")
    assert "--enable-tokenizer-info-endpoint" not in words(shelf, "other")


def test_a_base_without_a_template_follows_its_adapter(shelf: Any) -> None:
    shelf.base(template=False)
    shelf.adapter("qwen:one", row="prompt_format = 'koalpaca'")
    assert after(words(shelf, "qwen:one"), "--chat-template").endswith("koalpaca.jinja")
    with pytest.raises(VariantError, match="'qwen' has no chat template") as caught:
        words(shelf, "qwen", adapters=False)
    assert "prompt_format" in caught.value.hint


def test_a_template_in_the_tokenizer_s_config_counts(shelf: Any, model_files: Any) -> None:
    folder = shelf.base(template=False)
    model_files.json(folder / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    assert "--chat-template" not in words(shelf, "qwen")


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"use_dora": True}, "it uses DoRA", "--to merged"),
    ({"bias": "all"}, "it trains biases", "--to merged"),
    ({"lora_bias": True}, "it trains biases", "--to merged"),
    ({"modules_to_save": ["lm_head"]}, "replaces whole modules", "--to merged"),
    ({"r": 513}, "its rank is 513, and 512 is the largest", "--to merged"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa", "--to merged"),
    ({"init_lora_weights": "loftq"}, "init_lora_weights: loftq", "--to merged"),
    ({"peft_type": "IA3"}, "its kind is IA3", "--to merged"),
    ({"layer_replication": [[0, 2]]}, "it repeats layers", "--to merged"),
    ({"target_parameters": ["experts"]}, "parameters that are no layers", "--to merged"),
    ({"rank_pattern": {"q_proj": 4}}, "(rank_pattern), and vLLM reads one for all", "--to merged"),
    ({"alpha_pattern": {"q_proj": 4}}, "(alpha_pattern), and vLLM reads one for all", "--to merged"),
]


@pytest.mark.parametrize(("config", "why", "remedy"), FAULTS)
def test_adapters_that_vllm_cannot_serve(config: dict[str, Any], why: str, remedy: str, shelf: Any) -> None:
    shelf.base()
    shelf.adapter("qwen:bad", **config)
    with pytest.raises(VariantError) as caught:
        made(shelf, "qwen:bad")
    assert why in caught.value.message
    assert "'qwen:bad'" in caught.value.message
    assert f"madang export qwen:bad {remedy}" in caught.value.hint
    shelf.adapter("qwen:good")
    plan, left = made(shelf, "qwen")
    assert [row.model for row in plan.rows] == ["qwen", "qwen:good"]
    assert len(left) == 1
    assert left[0].startswith("qwen:bad is left out. vLLM cannot serve")
    assert why in left[0]


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_starts_that_leave_the_base_alone_are_served(start: object, shelf: Any) -> None:
    shelf.base()
    shelf.adapter("qwen:one", init_lora_weights=start, use_rslora=True)
    assert made(shelf, "qwen:one")[1] == []


def test_one_template_a_server(shelf: Any) -> None:
    shelf.base()
    shelf.adapter("qwen:one", row="prompt_format = 'alpaca'")
    with pytest.raises(VariantError, match="is asked in the format alpaca, and the server's one chat template") as e:
        made(shelf, "qwen:one")
    assert "madang export qwen:one --to merged" in e.value.hint


@pytest.mark.parametrize(("template", "served"), [("{{ messages }}", True), ("{{ messages[0] }}", False)])
def test_an_adapters_own_template_is_the_bases_or_is_refused(template: str, served: bool, shelf: Any) -> None:
    shelf.base()
    (shelf.adapter("qwen:one") / "chat_template.jinja").write_text(template)
    if served:
        assert made(shelf, "qwen:one")[1] == []
        return
    with pytest.raises(VariantError, match="brings a chat template of its own"):
        made(shelf, "qwen:one")


def test_adapters_want_sixteen_bits(shelf: Any) -> None:
    shelf.base(row="dtype = 'fp32'")
    shelf.adapter("qwen:one")
    with pytest.raises(VariantError, match="its base runs in fp32") as caught:
        made(shelf, "qwen:one")
    assert 'dtype = "bf16"' in caught.value.hint


def test_weights_are_not_quantized_twice(shelf: Any) -> None:
    shelf.base(row="load_in_4bit = true", quantization_config={"quant_method": "compressed-tensors"})
    with pytest.raises(VariantError, match="quantized already") as caught:
        made(shelf, "qwen")
    assert "load_in_4bit" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "error", "hint"),
    [
        (("qwen", "other"), "one base a process, and these are 2: qwen, other", "--port"),
        (("qwen:Q4",), "'qwen:Q4' is a GGUF", "madang serve qwen:Q4 --engine llama-server"),
        (("afar",), "'afar' is a server already, at http://far/v1", "a base or an adapter"),
        (("pretend",), "'pretend' is a fake", "real model"),
        (("qwne",), "no variant named 'qwne'", "Did you mean qwen"),
    ],
)
def test_what_is_no_base_with_adapters(names: tuple[str, ...], error: str, hint: str, shelf: Any) -> None:
    shelf.base()
    shelf.base("other")
    shelf.gguf("qwen:Q4")
    shelf.add("afar", "remote", "url = 'http://far/v1'")
    shelf.add("pretend", "base", "source = 'fake:x'")
    with pytest.raises(MadangError) as caught:
        made(shelf, *names)
    assert error in caught.value.message
    assert hint in caught.value.hint


def test_broken_files_are_refused_before_vllm_sees_them(shelf: Any) -> None:
    weights = shelf.base() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(VariantError, match="cut short"):
        made(shelf, "qwen")


def test_own_flags_come_last_and_the_command_is_chosen(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.base()
    assert words(shelf, "qwen", flags=("--max-model-len", "99"))[-2:] == ["--max-model-len", "99"]
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert words(shelf, "qwen")[:2] == ["/bin/vllm", "serve"]
    monkeypatch.setenv("MADANG_VLLM", "uvx --from 'vllm==0.33.0' vllm")
    shelf.settings = Settings(data=shelf.settings.data)
    assert words(shelf, "qwen")[:5] == ["uvx", "--from", "vllm==0.33.0", "vllm", "serve"]
    assert words(shelf, "qwen", command=("mine",))[:2] == ["mine", "serve"]


def test_what_lacks_is_said_with_the_plugin_that_4_bits_need(shelf: Any) -> None:
    shelf.base()
    shelf.base("small", row="load_in_4bit = true")
    assert "uv tool install vllm (" in made(shelf, "qwen")[0].missing
    assert "uv tool install vllm --with vllm-bnb-plugin" in made(shelf, "small")[0].missing
    assert made(shelf, "qwen", command=("mine",))[0].missing == ""


def test_a_path_with_a_comma_goes_as_json(shelf: Any, tmp_path: Path, model_files: Any) -> None:
    shelf.base()
    folder = model_files.adapter(tmp_path / "a,b=c")
    shelf.add("qwen:one", "adapter", f"source = {str(folder)!r}\nbase = 'qwen'")
    assert json.loads(words(shelf, "qwen")[-1]) == {"name": "qwen:one", "path": str(folder)}


def test_the_key_is_in_the_environment_alone(shelf: Any) -> None:
    shelf.base()
    settings = shelf.using(api_keys=SecretStr("sesame"))
    plan, _ = made(shelf, "qwen", settings=settings)
    assert "sesame" not in plan.shown
    assert plan.shown.startswith('DO_NOT_TRACK=1 VLLM_API_KEY="$MADANG_API_KEYS" vllm serve ')
    assert plan.full_environment(Wish(settings).key)["VLLM_API_KEY"] == "sesame"
    assert [row.key_env for row in plan.rows] == ["MADANG_API_KEYS"]


@pytest.mark.parametrize(("keys", "file", "said"), [("a,b", None, "several"), ("", "k", "none"), ("a", "k", "beside")])
def test_an_engine_takes_one_key(keys: str, file: str | None, said: str, shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "k").write_text("from-file\n")
    shelf.base()
    settings = shelf.using(api_keys=SecretStr(keys), api_keys_file=tmp_path / file if file else None)
    with pytest.raises(ConfigError, match="takes one key") as caught:
        made(shelf, "qwen", settings=settings)
    assert said in caught.value.message
    assert "from-file" not in caught.value.message + caught.value.hint
    assert "--engine madang" in caught.value.hint
