"""What --to may say, and what is said of what it may not; sizes on the safe side."""

from collections.abc import Callable
from pathlib import Path

import pytest

from playground.errors import ConfigError, UnknownNameError
from training.export import plan
from training.export.plan import Wanted


def labels(text: str) -> list[str]:
    return [wanted.label for wanted in plan.parse(text)]


def test_a_list_of_levels_goes_on_with_bare_ones() -> None:
    assert labels("adapter,merged,gguf:q4_k_m,q8_0,f16,gptq") == ["adapter", "merged", "Q4_K_M", "Q8_0", "F16", "GPTQ"]
    assert labels("GGUF:Q4_K_M, q8_0 ,merged,Q5_K_M,") == ["Q4_K_M", "Q8_0", "merged", "Q5_K_M"]
    assert labels("gguf") == ["Q4_K_M"]
    assert labels("gguf:q8_0,gguf:q8_0,q8_0") == ["Q8_0"]


def test_every_level_of_llama_cpp_has_a_name_and_a_size() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    theirs = {name.split("_", 3)[3].lower() for name in dir(llama_cpp) if name.startswith("LLAMA_FTYPE_MOSTLY_")}
    assert {wanted.level for wanted in plan.parse(f"gguf:f32,{','.join(theirs)}")} == theirs | {"f32"}


@pytest.mark.parametrize(
    ("text", "kind", "message", "hint"),
    [
        ("", ConfigError, "to which formats", "--to adapter,merged,gguf,gptq"),
        (" , ", ConfigError, "to which formats", "--to adapter"),
        ("q4_k_m", ConfigError, "'q4_k_m' is a GGUF level", "Write gguf:q4_k_m"),
        ("merge", UnknownNameError, "no export format named 'merge'", "Did you mean merged"),
        ("onnx", UnknownNameError, "no export format named 'onnx'", "Known: adapter, gguf, gptq, merged"),
        ("gguf:q4km", UnknownNameError, "no GGUF level named 'q4km'", "q4_k_m"),
        ("gguf:q4_k_m,mergd", UnknownNameError, "no GGUF level named 'mergd'", ""),
        ("gptq:4", ConfigError, "'gptq:4' is no export format", "Only gguf does"),
    ],
)
def test_what_is_not_known_is_named(text: str, kind: type[Exception], message: str, hint: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        plan.parse(text)
    assert hint in caught.value.hint  # type: ignore[attr-defined]


def test_places_are_named_after_model_adapter_and_level() -> None:
    assert [wanted.place("Llama-3-ko") for wanted in plan.parse("gguf:q4_k_m,gptq,merged,adapter")] == [
        "Llama-3-ko-Q4_K_M.gguf",
        "Llama-3-ko-gptq-compressed-tensors",
        "merged",
        "adapter",
    ]


def test_the_peak_counts_what_is_built_on_the_way(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SMALL", 0)
    base = tiny("llama")
    adapter = tiny_adapter(base)
    full = (base / "model.safetensors").stat().st_size // 2
    alone = plan.sizes(base, adapter, plan.parse("gguf:q8_0"))
    assert full * 2.5 < alone.peak < full * 2.6  # merged, f16, and about half of one
    whole = plan.sizes(base, adapter, plan.parse("merged,gguf:f16,q8_0"))
    assert abs(whole.peak - alone.peak) < full * 0.01
    assert plan.sizes(base, adapter, (Wanted(kind="adapter"),)).peak == sum(f.stat().st_size for f in adapter.iterdir())
    assert alone.artefacts["Q8_0"] < whole.artefacts["F16"] < plan.sizes(base, adapter, plan.parse("gguf:f32")).peak
