"""Every kind of adapter is merged to what PEFT answers unmerged, and parity agrees or says that it cannot judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from playground.errors import VariantError
from tests.playground.backends.conftest import tokenizer
from tests.playground.backends.test_adapter_kinds import OTHERS
from tests.training.export import kinds
from tests.training.export.kinds import KINDS, MIXTURES, Kind, loaded
from training.export import merge
from training.export.deltas import why_in_memory
from training.export.parity import files
from training.export.parity.source import Source
from training.export.parity.verdict import Verdict, verdict_of

IDS = torch.arange(40)[None]
QUICK = {("llama", "tied"), ("mixtral", "untied")}
UNJUDGED = ("experts", "all linear on mixtures", "pissa", "olora")
"""Kinds of which parity does not compute the weights."""
Bases = Callable[..., Path]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """Tiny bases, each made once."""
    made: dict[str, Path] = {}

    def make(family: str, tied: str, **more: Any) -> Path:
        key = f"{family} {tied} {more}"
        if key not in made:
            made[key] = kinds.base(tmp_path_factory.mktemp(family), family, tied == "tied", **more)
        return made[key]

    return make


def unmerged(base: Path, adapter: Path, rows: int = 0) -> torch.Tensor:
    """What PEFT answers with the adapter beside its base."""
    with torch.no_grad():
        model = PeftModel.from_pretrained(loaded(base, rows), str(adapter)).eval()
        return torch.as_tensor(model(IDS).logits).log_softmax(-1)


def parity(base: Path, adapter: Path, built: Path) -> Verdict:
    step = files.check_folder(Source(base, adapter), built, lambda fraction: None)
    return verdict_of(step.findings, {"files": step.numbers})


def check(base: Path, adapter: Path, out: Path, rows: int = 0) -> Verdict:
    """Merge, hold the answers against PEFT's, and return parity's verdict on the files."""
    want = unmerged(base, adapter, rows)
    merge.merge(base, adapter, out, "float32")
    with torch.no_grad():
        got = torch.as_tensor(loaded(out)(IDS).logits).log_softmax(-1)
        plain = torch.as_tensor(loaded(base)(IDS).logits).log_softmax(-1)
    assert got.shape == want.shape
    assert (got - want).abs().max() < 1e-3
    assert (plain - want[..., : plain.shape[-1]]).abs().max() > 0.01, "the adapter changes nothing: no fault would show"
    verdict = parity(base, adapter, out)
    assert verdict.verdict == "pass", "\n".join(verdict.lines)
    return verdict


def table() -> list[Any]:
    rows = []
    for name, kind in KINDS.items():
        for family in kind.only:
            for tied in ("tied", "untied"):
                if name == "grown embeddings" and tied == "untied":
                    continue
                marks = () if (family, tied) in QUICK else (pytest.mark.slow,)
                rows.append(pytest.param(name, family, tied, marks=marks, id=f"{name}-{family}-{tied}"))
    return rows


@pytest.mark.parametrize(("name", "family", "tied"), table())
def test_lora_of_every_kind(name: str, family: str, tied: str, bases: Bases, tmp_path: Path) -> None:
    kind = KINDS[name]
    base = bases(family, tied, **kind.base)
    adapter = kinds.adapter(tmp_path / "adapter", base, kind)
    grown = loaded(base).config.vocab_size + kind.grown if kind.grown else 0
    verdict = check(base, adapter, tmp_path / "merged", grown)
    judged = name not in UNJUDGED and (name != "all linear" or family not in MIXTURES)
    assert ("not_judged" not in verdict.numbers["files"]) == judged
    not_merged = parity(base, adapter, base)
    assert not judged or not_merged.verdict == "fail", "\n".join(not_merged.lines)


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_go_through_peft(name: str, bases: Bases, tmp_path: Path) -> None:
    base, (config, options) = bases("llama", "tied"), OTHERS[name]
    torch.manual_seed(1)
    model = get_peft_model(loaded(base), getattr(peft, config)(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    verdict = check(base, tmp_path / "adapter", tmp_path / "merged")
    assert "The weights cannot be judged here: its kind is" in "\n".join(verdict.lines)


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 32}}], ids=str)
@pytest.mark.parametrize("family", MIXTURES)
def test_single_experts_of_transformers_4(family: str, more: dict[str, Any], bases: Bases, tmp_path: Path) -> None:
    """Plain ones are added one by one; where PEFT scales them anew as it puts them together, it merges them itself."""
    base = bases(family, "untied")
    adapter = kinds.of_single_experts(tmp_path / "adapter", base, **more)
    assert ("PEFT scales experts" in why_in_memory(base, adapter)) == bool(more)
    check(base, adapter, tmp_path / "merged")


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 that sees, as a checkpoint has it; its layers have had other names."""
    from transformers import AutoConfig, Gemma3ForConditionalGeneration

    torch.manual_seed(0)
    words = tokenizer()
    text = kinds.SHAPE | kinds.FAMILIES["gemma3_text"] | {"vocab_size": len(words)}
    sees = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = sees | {"image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4)
    folder = tmp_path_factory.mktemp("gemma3")
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("names", ["of today", "of 4.49"])
def test_names_that_transformers_changed(names: str, gemma3: Path, tmp_path: Path) -> None:
    targets = r".*language_model.*\.(q|v)_proj"
    adapter = kinds.adapter(tmp_path / "adapter", gemma3, Kind({"target_modules": targets}))
    if names == "of 4.49":
        file = adapter / "adapter_model.safetensors"
        held = load_file(file)
        save_file({n.replace("model.language_model.", "language_model.model."): held[n] for n in held}, file)
    check(gemma3, adapter, tmp_path / "merged")


REFUSED: dict[str, tuple[Kind, str]] = {
    "no place for biases": (
        Kind({"target_modules": ["q_proj"], "lora_bias": True}),
        "adds a bias to .* which has none",
    ),
    "repeated layers": (
        Kind({"target_modules": ["q_proj"], "layer_replication": [[0, 2], [1, 2]]}),
        "uses layers of its base several times",
    ),
    "new rows of the head that nobody saved": (
        Kind({"target_modules": ["q_proj", "embed_tokens"]}, grown=3),
        "grew by 3 tokens whose rows in the output layer it does not hold",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_merged_model_has_no_place_for_is_refused_before_anything_starts(
    name: str, bases: Bases, tmp_path: Path
) -> None:
    kind, reason = REFUSED[name]
    base = bases("llama", "untied")
    with pytest.raises(VariantError, match=reason):
        merge.check(base, kinds.adapter(tmp_path / "adapter", base, kind))


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(bases: Bases, tmp_path: Path) -> None:
    base = bases("llama", "tied")
    adapter = kinds.adapter(tmp_path / "adapter", base, KINDS["plain"])
    words = tokenizer()
    words.add_tokens(["<one>", "<two>"])
    words.save_pretrained(adapter)
    with pytest.raises(VariantError, match="grew by 2 tokens whose embeddings it does not hold") as caught:
        merge.check(base, adapter)
    assert "save_embedding_layers" in caught.value.hint


def test_a_merge_that_answers_otherwise_is_refused(
    bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever PEFT may lose in a kind that nobody has thought of: nothing different goes out."""
    base = bases("llama", "tied")
    adapter = kinds.adapter(tmp_path / "adapter", base, KINDS["dora"])
    monkeypatch.setattr("peft.tuners.lora.layer.Linear.merge", lambda self, **more: None)
    with pytest.raises(VariantError, match="answers otherwise once PEFT has merged it"):
        merge.merge(base, adapter, tmp_path / "merged", "float32")
    assert not (tmp_path / "merged").exists()
