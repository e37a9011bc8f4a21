"""A card that the Hub reads, people use, and that says nothing about the machine it was written on."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from playground.escape import without_paths
from training.export.card import Data, Info, Score, card, licence_of
from training.export.parity import Verdict
from training.export.plan import Kind

VERDICTS = {
    "F16": Verdict(
        verdict="pass",
        numbers={"numbers": {"against": "base:tuned", "mean_kl": 1e-5, "p99_kl": 2e-4, "same_top": 0.999,
                             "perplexity_ratio": 1.0, "positions": 700}},
    ),
    "Q4_K_M": Verdict(verdict="fail", causes=["template", "weights"], lines=["No template."]),
}  # fmt: skip


def info(kind: Kind = "gguf", **more: object) -> Info:
    fields: dict[str, object] = {
        "name": "SmolLM2-tuned",
        "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "kind": kind,
        "repo": "kim/tuned",
        "method": "sft",
        "recipe": {"model": "/home/kim/models/base", "name": "마당", "trainer": {"learning_rate": 0.001}},
        "data": Data("/home/kim/secret folder/rows.jsonl", 1234, "messages"),
        "versions": {"torch": "2.13.0", "peft": "0.21.2"},
        "scores": [Score("kobest_copa", "acc", 0.42, 50), Score("kobest_boolq", "f1", 0.51, 50, 5)],
        "verdicts": VERDICTS,
        "files": ["SmolLM2-tuned-Q8_0.gguf"],
        "licence": "apache-2.0",
    }
    return Info(**(fields | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf", "gptq"])
def test_the_hub_reads_it_back(kind: Kind) -> None:
    row: Any = ModelCard(card(info(kind))).data
    assert row.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert row.license == "apache-2.0"
    assert row.library_name == {"adapter": "peft", "gguf": "gguf"}.get(kind, "transformers")
    assert row.eval_results is not None
    found = {(one.dataset_name, one.metric_type, one.metric_value) for one in row.eval_results}
    assert found == {("kobest_copa", "acc", 0.42), ("kobest_boolq", "f1", 0.51)}
    assert {one.dataset_args["num_few_shot"] for one in row.eval_results if one.dataset_args} == {0, 5}


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("adapter", ['AutoPeftModelForCausalLM.from_pretrained("kim/tuned")']),
        ("merged", ['AutoModelForCausalLM.from_pretrained("kim/tuned")']),
        ("gguf", ["llama-cli -hf kim/tuned:Q8_0", "ollama run hf.co/kim/tuned:Q8_0"]),
        ("gptq", ['AutoModelForCausalLM.from_pretrained("kim/tuned")', "pip install compressed-tensors"]),
    ],
)
def test_it_says_how_it_is_used(kind: Kind, lines: list[str]) -> None:
    text = card(info(kind))
    assert [line for line in lines if line not in text] == []


def test_it_holds_recipe_data_scores_parity_and_drift() -> None:
    text = card(info())
    recipe = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert recipe == {"model": "base", "name": "마당", "trainer": {"learning_rate": 0.001}}
    for line in (
        "rows.jsonl: 1,234 rows, format messages.",
        "| kobest_boolq | f1 | 0.5100 | 50 | 5 |",
        "| Q4_K_M | fail | template, weights |",
        "| F16 | base:tuned | 0.0000 | 0.0002 | 99.9% | 1.000 |",
        "| torch | 2.13.0 |",
    ):
        assert line in text


def test_no_path_of_the_machine_is_in_it() -> None:
    text = card(info(base="/home/kim/models/SmolLM2"))
    assert not [word for word in ("home", "kim/models", "secret") if word in text]
    assert "fine-tuned from SmolLM2." in text
    assert "base_model" not in text


def test_a_card_without_the_rest_has_no_empty_parts() -> None:
    text = card(Info("tuned", "base", "merged"))
    assert "##" in text
    assert not [word for word in ("Scores", "Parity", "Recipe", "Data", "Versions", "model-index") if word in text]


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("/data/a/rows.jsonl", "rows.jsonl"),
        (Path("/data/a"), "a"),
        ("~/models/x", "x"),
        (r"C:\Users\kim\rows.csv", "rows.csv"),
        (r"\\server\share\rows.csv", "rows.csv"),
        ("C:/Users/kim lee/rows.csv", "rows.csv"),
        ("see /home/kim/a.txt, then", "see a.txt, then"),
        ("owner/name", "owner/name"),
        ("https://huggingface.co/owner/name", "https://huggingface.co/owner/name"),
        ("and/or 1/2", "and/or 1/2"),
        ([{"a": "/x/y"}], [{"a": "y"}]),
        (0.5, 0.5),
    ],
)
def test_paths_are_cut_to_their_last_part(value: object, left: object) -> None:
    assert without_paths(value) == left


def test_the_licence_is_the_bases(tmp_path: Path) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "LICENSE").write_text("\n    Apache License\n  Version 2.0")
    assert licence_of(tmp_path) == "apache-2.0"
    (tmp_path / "LICENSE").write_text("Gemma Terms of Use")
    assert licence_of(tmp_path) == "other"


def test_what_rounding_swallowed_is_on_the_card_and_nothing_where_none_was() -> None:
    row = {"all": 0.04, "types": {"Q4_K": 0.01, "Q8_0": 0.69}}
    warned = Verdict(verdict="warn", causes=["swallowed"], numbers={"files": {"arrived": row}})
    whole = Verdict(verdict="pass", numbers={"files": {"arrived": {"all": 0.96, "types": {"Q8_0": 0.96}}}})
    text = card(info(verdicts={"Q4_K_M": warned, "Q8_0": whole}))
    assert "### What arrived of the adapter" in text
    assert "| Q4_K_M | 4% | Q4_K 1%, Q8_0 69% |" in text
    assert "| Q8_0 | 96% | Q8_0 96% |" in text
    assert "arrived" not in card(info(verdicts={"Q8_0": whole}))
