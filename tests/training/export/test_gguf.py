"""Names, files and failures are said plainly; a tiny model goes all the way."""

import json
from pathlib import Path

import pytest

from playground.errors import ConfigError, MadangError, UnknownNameError, VariantError
from playground.measure.drift import TEXTS_FILE
from training.demo.prepare import ADAPTER, BASE
from training.demo.unpack import package_gguf
from training.export import gguf, imatrix
from training.export.gguf import DIRECT, LEVELS, QUANTS, convert, is_gguf, quantize
from training.export.merge import merge
from training.export.process import isolated


def test_unknown_types_get_near_matches(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        quantize(tmp_path / "a.gguf", tmp_path / "b.gguf", "q4_km")
    assert "q4_k_m" in caught.value.hint
    with pytest.raises(UnknownNameError, match="GGUF type to convert to named 'q4_k_m'"):
        convert(tmp_path, tmp_path / "b.gguf", "q4_k_m")


def test_what_is_not_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(VariantError, match=r"has no config\.json"):
        convert(tmp_path, tmp_path / "b.gguf")
    (tmp_path / "a.gguf").write_text("text")
    with pytest.raises(VariantError, match="is not a GGUF file"):
        quantize(tmp_path / "a.gguf", tmp_path / "b.gguf")


def test_the_converters_own_words_come_back(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"], "model_type": "none"}))
    with pytest.raises(MadangError, match="cannot be converted to GGUF: .* does not know NoSuchModel"):
        convert(tmp_path, tmp_path / "b.gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_llama_cpps_failure_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(MadangError, match=r"a\.gguf"):
        quantize(tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["a.gguf"]


def test_every_type_of_llama_cpp_has_its_name() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    prefix = "LLAMA_FTYPE_MOSTLY_"
    theirs = {name.removeprefix(prefix) for name in dir(llama_cpp) if name.startswith(prefix)}
    assert set(QUANTS.values()) == theirs - {"F16", "BF16"}
    assert all(name == own.lower() for name, own in QUANTS.items())
    assert len(LEVELS) == len(QUANTS) + len(DIRECT)


def test_architectures_are_the_converters() -> None:
    conversion = pytest.importorskip("conversion")
    assert gguf.architectures() == set(conversion.TEXT_MODEL_MAP)


def test_a_converter_that_does_not_list_its_architectures_is_asked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["New"]}')
    with pytest.raises(VariantError, match="does not know New"):
        gguf.check_convertible(tmp_path)
    monkeypatch.setattr(gguf, "architectures", lambda: set())
    gguf.check_convertible(tmp_path)


def test_merging_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="saved as 'int4'"):
        merge(tmp_path, tmp_path, tmp_path / "out", "int4")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(VariantError, match="is not an adapter"):
        merge(tmp_path, tmp_path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.models
def test_the_packages_weights_come_back_exactly(demo_f16: Path) -> None:
    """Unpacked and converted again, row order included: a mistake in it would cancel out between our own files."""
    import numpy as np
    from gguf import GGUFReader, dequantize

    assert is_gguf(demo_f16)
    ours, theirs = GGUFReader(demo_f16).tensors, GGUFReader(package_gguf()).tensors
    assert sorted(tensor.name for tensor in ours) == sorted(tensor.name for tensor in theirs)
    packaged = {tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float16) for tensor in theirs}
    assert [t.name for t in ours if not np.array_equal(t.data.astype(np.float16), packaged[t.name])] == []


@pytest.mark.slow
@pytest.mark.models
def test_an_f16_gguf_of_the_base_answers_like_the_folder(demo_models: Path, demo_f16: Path) -> None:
    """Both engines' logits agree to what F16 arithmetic leaves."""
    import numpy as np
    import torch
    from llama_cpp import Llama
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hf = AutoModelForCausalLM.from_pretrained(demo_models / BASE, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(demo_models / BASE)("The capital of France is Paris. 안녕하세요 🙂")[
        "input_ids"
    ]
    gguf = Llama(str(demo_f16), n_ctx=256, logits_all=True, verbose=False)
    gguf.eval(ids)
    theirs = np.array(gguf.scores[: len(ids)])
    gguf.close()
    with torch.no_grad():
        ours = hf(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < 0.1
    assert (ours.argmax(-1) == theirs.argmax(-1)).all()


@pytest.mark.slow
@pytest.mark.models
def test_a_merged_folder_is_base_plus_adapter(demo_models: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merge(demo_models / BASE, demo_models / ADAPTER, tmp_path / "merged", "float32")
    for name in ("tokenizer.json", "tokenizer_config.json", "LICENSE", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (demo_models / BASE / name).read_bytes()
    base = AutoModelForCausalLM.from_pretrained(demo_models / BASE, dtype=torch.float32)
    ids = torch.tensor([[1, 504, 3575, 282, 4649, 314]])
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, str(demo_models / ADAPTER))(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-3)
    assert not torch.allclose(plain, merged, atol=0.1)


@pytest.mark.slow
@pytest.mark.models
def test_an_importance_matrix_is_measured_and_used(demo_models: Path, demo_f16: Path, tmp_path: Path) -> None:
    """A level of two bits is refused without one; with one, the tensors that were measured come out otherwise."""
    import numpy as np
    from gguf import GGUFReader

    base, f16 = demo_models / BASE, demo_f16
    (tmp_path / "text.txt").write_text(TEXTS_FILE.read_text(encoding="utf-8"), encoding="utf-8")
    isolated(imatrix.measure, base, tmp_path / "text.txt", tmp_path / "m.npz", what="Measuring")
    rows = imatrix.read(str(tmp_path / "m.npz"))
    linear = {
        t.name: int(t.shape[0]) for t in GGUFReader(f16).tensors if t.name.startswith("blk.") and len(t.shape) == 2
    }
    assert {name: values.size for name, values in rows.items() if name != "output.weight"} == linear
    assert all((values > 0).all() for values in rows.values())
    with pytest.raises(ConfigError, match="IQ1_S has too few bits to go without an importance matrix"):
        quantize(f16, tmp_path / "q.gguf", "iq1_s")
    for name, matrix in (("with", tmp_path / "m.npz"), ("without", None)):
        quantize(f16, tmp_path / name, "q4_k_m", matrix)
    held, plain = ({t.name: t.data for t in GGUFReader(tmp_path / name).tensors} for name in ("with", "without"))
    changed = {name for name in held if not np.array_equal(held[name], plain[name])}
    assert len(changed & set(linear)) > len(linear) // 2
    assert changed <= set(linear)
    assert GGUFReader(tmp_path / "with").fields["general.name"].contents() == "base"
