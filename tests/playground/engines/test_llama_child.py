"""The child program's options: written into CommonParams, unknown ones refused with near matches."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from playground.engines.llama_child import fill, main
from playground.errors import ConfigError, MadangError, UnknownNameError

WORDS = ["--model", "m.gguf", "--alias", "a:b", "--host", "127.0.0.1", "--port", "9", "--ctx-size", "64"]
WORDS += ["--parallel", "2", "--threads", "3"]


class Params(SimpleNamespace):
    """A CommonParams of a few fields, one of each kind."""

    def __init__(self) -> None:
        super().__init__(n_batch=2048, cache_prompt=True, slot_prompt_similarity=0.1, media_path="", n_gpu_layers=-1)
        self.model, self.cpuparams, self.cpuparams_batch = SimpleNamespace(), SimpleNamespace(), SimpleNamespace()
        self.chat_template = ""


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Any:
    return Params()


def test_the_options_of_madang(params: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.jinja").write_text("{{ 질문 }}", encoding="utf-8")
    monkeypatch.setenv("LLAMA_API_KEY", "sesame")
    fill(params, [*WORDS, "--jinja", "--n-gpu-layers", "5", "--chat-template-file", str(tmp_path / "t.jinja")])
    assert (params.model.path, params.model_alias) == ("m.gguf", {"a:b"})
    assert (params.hostnames, params.port, params.n_ctx, params.n_parallel) == (["127.0.0.1"], 9, 64, 2)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.cont_batching, params.use_jinja, params.endpoint_metrics, params.ui) == (True, True, False, False)
    assert (params.n_gpu_layers, params.chat_template) == (5, "{{ 질문 }}")
    assert (params.api_keys, params.cors_origins) == (["sesame"], "localhost")


def test_without_a_key_and_with_other_origins(params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_CORS_ORIGINS", "*")
    fill(params, WORDS)
    assert (params.api_keys, params.cors_origins, params.n_gpu_layers) == ([], "*", -1)


def test_fields_of_its_own(params: Any) -> None:
    fill(params, [*WORDS, "--n-batch", "512", "--cache-prompt", "false", "--slot-prompt-similarity", "0.5"])
    assert (params.n_batch, params.cache_prompt, params.slot_prompt_similarity) == (512, False, 0.5)


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--n-bach", "512"], UnknownNameError, "n_batch"),
        (["n_batch", "512"], UnknownNameError, "n_batch"),
        (["--n-batch", "many"], ConfigError, "--n-batch many: no int"),
        (["--cache-prompt", "0"], ConfigError, "--cache-prompt 0: no bool"),
        (["--n-batch"], ConfigError, "--n-batch has no value"),
    ],
)
def test_faults(words: list[str], kind: type[MadangError], said: str, params: Any) -> None:
    with pytest.raises(kind) as caught:
        fill(params, [*WORDS, *words])
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_the_real_params_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="the extra llama-server is not installed")
    params = xllamacpp.CommonParams()
    fill(params, [*WORDS, "--jinja", "--metrics", "--cache-ram-mib", "100"])
    assert (params.model.path, params.port, params.n_ctx, params.cache_ram_mib) == ("m.gguf", 9, 64, 100)
    assert (params.cpuparams.n_threads, params.hostnames, params.cors_origins) == (3, ["127.0.0.1"], "localhost")


def test_on_a_cpu_without_flash_attention_unless_it_is_asked_for() -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="the extra llama-server is not installed")
    by_default = xllamacpp.CommonParams().flash_attn_type
    for on_card, words, attention in ((True, [], by_default), (False, [], 0), (False, ["--flash-attn-type", "1"], 1)):
        params = xllamacpp.CommonParams()
        fill(params, [*WORDS, *words], on_card=on_card)
        assert params.flash_attn_type == attention
    with pytest.raises(ConfigError, match="--flash-attn-type off"):
        fill(xllamacpp.CommonParams(), [*WORDS, "--flash-attn-type", "off"])


def test_the_error_is_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xllamacpp", reason="the extra llama-server is not installed")
    assert main([*WORDS, "--n-bach", "1"]) == 2
    hint, error = capsys.readouterr().err.splitlines()
    assert hint.startswith("hint: Did you mean")
    assert error == "error: There is no field of xllamacpp's CommonParams named '--n-bach'."
