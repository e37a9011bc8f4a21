"""Faults planted in the embedded model itself: those that a tiny random model does not have, or hides."""

import shutil
from pathlib import Path

import pytest

from playground.catalogue.variants import Gguf
from training.demo.unpack import package_gguf
from training.export.parity.sessions import Session

from .conftest import Check, Made
from .planted import rewrite, zeros

pytestmark = [pytest.mark.models, pytest.mark.slow]


@pytest.fixture(scope="module")
def wrong_tokenizer(embedded: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged folder with the tokenizer that transformers itself builds from the base's GGUF."""
    import transformers.utils.import_utils as found
    from transformers import AutoTokenizer

    folder = shutil.copytree(embedded.merged, tmp_path_factory.mktemp("wrong") / "merged")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.MonkeyPatch.context() as patch:
        for module in (found, __import__("transformers.modeling_gguf_pytorch_utils", fromlist=["x"])):
            patch.setattr(module, "is_gguf_available", lambda *version: True)
        AutoTokenizer.from_pretrained(package_gguf().parent, gguf_file=package_gguf().name).save_pretrained(folder)
    return folder


def test_a_tokenizer_rebuilt_wrongly(embedded: Made, check_embedded: Check, wrong_tokenizer: Path) -> None:
    verdict = check_embedded(embedded.convert(wrong_tokenizer, "wrong"))
    assert verdict.verdict == "fail"
    assert "vocabulary" in verdict.causes
    assert set(verdict.causes) <= {"vocabulary", "bos-eos"}


def test_a_tokenizer_rebuilt_wrongly_in_a_folder(check_embedded: Check, wrong_tokenizer: Path) -> None:
    verdict = check_embedded(wrong_tokenizer)
    assert verdict.verdict == "fail"
    assert set(verdict.causes) <= {"vocabulary", "bos-eos", "template"}


def test_an_engine_that_dies_over_the_texts_is_a_finding(
    embedded: Made, embedded_session: Session, wrong_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the files not looked at, the rebuilt vocabulary would abort llama.cpp: its worker dies, we do not."""
    from training.export.parity import files
    from training.export.parity.verdict import Step

    monkeypatch.setattr(files, "check_gguf", lambda *args: Step())
    file = embedded.convert(wrong_tokenizer, "wrong")
    verdict = embedded_session.check(Gguf(name="dies", source=str(file)), "gguf", "f16")
    assert (verdict.verdict, "vocabulary" in verdict.causes) == ("fail", True), "\n".join(verdict.lines)


@pytest.mark.parametrize("level", ["f16", "q4_k_m"])
def test_its_adapter_not_merged(embedded: Made, check_embedded: Check, level: str) -> None:
    verdict = check_embedded(embedded.convert(embedded.base, "unmerged", level), level)
    assert (verdict.verdict, verdict.causes) == ("fail", ["merge"]), "\n".join(verdict.lines)


def test_a_zeroed_layer_in_four_bits(embedded: Made, check_embedded: Check, tmp_path: Path) -> None:
    file = rewrite(embedded.file("q4_k_m"), tmp_path / "x.gguf", tensors={"blk.12.": zeros})
    verdict = check_embedded(file, "q4_k_m")
    assert (verdict.verdict, verdict.causes) == ("fail", ["weights"])
    assert "Layer 12 (9 tensors) hold zeros alone" in "\n".join(verdict.lines)


def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.export.parity import files
    from training.export.parity.verdict import Step

    monkeypatch.setattr(files, "check_gguf", lambda *args: Step())


def test_numbers_alone_see_a_rope_base_off(
    embedded: Made, check_embedded: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third step does not lean on the first."""
    without_files(monkeypatch)
    file = rewrite(embedded.file("f16"), tmp_path / "x.gguf", {"llama.rope.freq_base": 10000.0})
    verdict = check_embedded(file)
    assert (verdict.verdict, verdict.causes) == ("fail", ["weights"])
    assert verdict.numbers["numbers"]["mean_kl"] > 0.05


def test_numbers_alone_see_an_adapter_that_is_missing(
    embedded: Made, check_embedded: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_files(monkeypatch)
    verdict = check_embedded(embedded.convert(embedded.base, "unmerged"))
    assert verdict.verdict == "fail"
    assert verdict.numbers["numbers"]["mean_kl"] > 0.05
