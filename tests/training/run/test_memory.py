"""The estimate against what was measured, the remedies, the machine; and, marked slow, real runs on this CPU."""

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from playground.system.hardware import GIB, MIB
from training.run import memory
from training.run.memory import Machine, Plan, estimate, remedies, verdicts
from training.run.parameters import Shape


def llama(
    hidden: int, ffn: int, layers: int, vocab: int, tied: bool = False, heads: tuple[int, int] = (32, 8)
) -> Shape:
    config = {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "vocab_size": vocab}
    config |= {"num_attention_heads": heads[0], "num_key_value_heads": heads[1], "tie_word_embeddings": tied}
    return Shape.from_config(config)


BIG = llama(4096, 14336, 32, 128256)
ONE = llama(2048, 8192, 16, 128256, tied=True)
SMOL = llama(576, 1536, 30, 49152, tied=True, heads=(9, 3))

H100_QLORA = [
    ("peft", 1, 6.57),
    ("peft", 2, 7.49),
    ("peft", 4, 9.45),
    ("peft", 8, 13.4),
    ("unsloth", 1, 6.29),
    ("unsloth", 2, 6.80),
    ("unsloth", 4, 7.82),
    ("unsloth", 8, 9.86),
]
"""One H100 80GB, 2026-11-24: the shape of Llama-3.1-8B, NF4 quantized twice, LoRA r 16 on seven layers, 2,048 tokens,
adamw_8bit. torch's peak allocated GiB of TRL 1.15.0's SFTTrainer, and of a plain loop over Unsloth 2026.10's model."""

H100_BF16 = [
    (ONE, True, 1, 5701, 7262),
    (ONE, True, 4, 15151, 18686),
    (ONE, False, 1, 9262, 10792),
    (ONE, False, 4, 29330, 32688),
    (BIG, True, 1, 19411, 21638),
    (BIG, True, 2, 22961, 26276),
    (BIG, True, 4, 30061, 34766),
    (BIG, False, 1, 32586, 34570),
    (BIG, False, 2, 49230, 53856),
]
"""The same card and day: bf16 base, fp32 LoRA r 16, bf16 autocast, torch's AdamW, transformers' own loss over all
logits, 2,048 tokens, with and without checkpointing. MiB: torch's peak allocated; and reserved with the context."""

CPU = [
    ({"batch": 1, "length": 256}, 1584),
    ({"batch": 2, "length": 256}, 1781),
    ({"batch": 4, "length": 256}, 2255),
    ({"batch": 1, "length": 512}, 1801),
    ({"batch": 2, "length": 512}, 2418),
    ({"batch": 4, "length": 512}, 3406),
    ({"batch": 1, "length": 256, "checkpointing": False}, 1947),
    ({"batch": 2, "length": 256, "checkpointing": False}, 2464),
    ({"batch": 4, "length": 256, "checkpointing": False}, 3588),
    ({"batch": 1, "length": 512, "checkpointing": False}, 2485),
    ({"batch": 2, "length": 512, "checkpointing": False}, 3596),
    ({"batch": 4, "length": 512, "checkpointing": False}, 5839),
    ({"batch": 2, "length": 512, "full_logits": True}, 2854),
    ({"batch": 4, "length": 256, "lean_heap": True}, 1480),
    ({"batch": 2, "length": 256, "lean_heap": True, "checkpointing": False}, 2000),
    ({"batch": 1, "length": 256, "method": "dpo"}, 1974),
    ({"batch": 2, "length": 256, "method": "kto"}, 2072),
    ({"batch": 4, "length": 256, "method": "kto"}, 2841),
    ({"batch": 2, "length": 512, "method": "kto", "checkpointing": False}, 4353),
    ({"batch": 1, "length": 256, "method": "orpo"}, 1929),
    ({"batch": 2, "length": 512, "method": "orpo"}, 4545),
    ({"batch": 1, "length": 512, "method": "orpo", "checkpointing": False}, 4089),
]
"""Peak MiB of RAM of TRL 1.14.2's trainers on two cores, 2026-11-24 and 30: SmolLM2-135M in fp32, LoRA r 16
on seven layers, torch's AdamW, full rows, three steps (benchmarks/train_memory.py)."""


def on_card(shape: Shape = BIG, **fields: Any) -> Plan:
    return Plan(trainable=shape.lora(16), **fields)


def on_cpu(**fields: Any) -> Plan:
    return Plan(trainable=SMOL.lora(16), device="cpu", bits=32, optimizer="adamw_torch", **fields)


def part(found: memory.Estimate, place: str, name: str) -> int:
    return sum(part.size for part in found.parts if (part.place, part.name) == (place, name))


@pytest.mark.parametrize(("engine", "batch", "measured"), H100_QLORA)
def test_qlora_of_8b_on_a_card(engine: Any, batch: int, measured: float) -> None:
    checkpointing: Any = "unsloth" if engine == "unsloth" else True
    found = estimate(BIG, on_card(engine=engine, batch=batch, checkpointing=checkpointing))
    assert found.allocated / GIB == pytest.approx(measured, rel=0.15)
    assert found.vram > found.allocated


@pytest.mark.parametrize(("shape", "checkpointing", "batch", "allocated", "held"), H100_BF16)
def test_lora_of_bf16_on_a_card(shape: Shape, checkpointing: bool, batch: int, allocated: int, held: int) -> None:
    plan = on_card(shape, bits=16, batch=batch, checkpointing=checkpointing, full_logits=True, optimizer="adamw_torch")
    found = estimate(shape, plan)
    assert found.allocated / MIB == pytest.approx(allocated, rel=0.15)
    assert found.vram / MIB == pytest.approx(held, rel=0.15)


@pytest.mark.parametrize(("fields", "measured"), CPU)
def test_fp32_on_the_cpu(fields: dict[str, Any], measured: int) -> None:
    found = estimate(SMOL, on_cpu(**fields))
    assert found.ram / MIB == pytest.approx(measured, rel=0.2)
    assert found.vram == 0


def test_the_parts_are_what_they_are_called() -> None:
    found = estimate(BIG, on_card(batch=2, optimizer="adamw_torch", download=5 * GIB))
    assert part(found, "vram", "adapter") == 2 * 41_943_040  # bf16
    assert part(found, "vram", "optimizer") == 4 * 41_943_040  # two moments, bf16
    assert part(found, "vram", "weights") / GIB == pytest.approx(5.31, abs=0.01)  # NF4, embeddings and head in bf16
    assert part(found, "disk", "model") == 5 * GIB
    assert sum(part.size for part in found.parts) == found.vram + found.ram + found.disk


def test_unsloth_moves_hidden_states_to_ram() -> None:
    plain = estimate(BIG, on_card(engine="unsloth", checkpointing=True))
    moved = estimate(BIG, on_card(engine="unsloth", checkpointing="unsloth"))
    hidden = 32 * 2 * 2048 * 4096 * 2
    assert moved.ram - plain.ram == hidden
    assert plain.allocated - moved.allocated == hidden


def test_dpo_takes_both_answers_and_all_logits() -> None:
    dpo, sft = estimate(ONE, on_card(ONE, method="dpo")), estimate(ONE, on_card(ONE, full_logits=True))
    assert dpo.plan.tokens == 2 * sft.plan.tokens
    assert part(dpo, "vram", "logits") > 2 * part(sft, "vram", "logits")


def test_packing_pays_for_a_mask() -> None:
    tokens = 4 * 2048
    more = estimate(ONE, on_card(ONE, batch=4, packing=True)).allocated - estimate(ONE, on_card(ONE, batch=4)).allocated
    assert more == 3 * tokens**2


def test_disk_grows_with_the_checkpoints_kept() -> None:
    none, three = (estimate(BIG, on_card(kept=kept)) for kept in (0, 3))
    one = 41_943_040 * (2 + memory.EIGHT_BIT_STATES) + memory.TOKENIZER * 128256
    assert three.disk - none.disk == pytest.approx(4 * one)  # the fourth is written before the oldest goes


@pytest.mark.parametrize("fields", [{"batch": 0}, {"length": 0}, {"bits": 8}, {"trainable": -1}, {"bacth": 2}])
def test_a_plan_refuses_nonsense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Plan(**({"trainable": 1} | fields))


def machine(vram: float = 80, ram: float = 64, disk: float = 100) -> Machine:
    def pair(size: float) -> tuple[int, int]:
        return int(size * GIB), int(size * 2 * GIB)

    return Machine((pair(vram), pair(vram / 2)), pair(ram), pair(disk))


def test_verdicts_name_need_and_have() -> None:
    found = {verdict.place: verdict for verdict in verdicts(estimate(BIG, on_card()), machine(vram=6))}
    assert set(found) == {"vram", "ram", "disk"}
    assert not found["vram"].fits
    assert found["ram"].fits
    assert (found["vram"].have, found["vram"].most) == (6 * GIB, 12 * GIB)
    assert found["vram"].need < found["vram"].most  # other programs hold the rest
    assert {verdict.place for verdict in verdicts(estimate(SMOL, on_cpu()), machine())} == {"ram", "disk"}


def test_what_fits_needs_no_remedy() -> None:
    assert remedies(estimate(BIG, on_card(batch=8)), machine()) == ()


def test_a_smaller_batch_keeps_its_product() -> None:
    found = remedies(estimate(BIG, on_card(batch=8, accumulation=2)), machine(vram=13))
    assert [(remedy.name, remedy.fits) for remedy in found] == [("batch", True)]
    plan = found[0].estimate.plan
    assert (plan.batch, plan.accumulation) == (4, 4)


def test_remedies_add_up_in_order() -> None:
    plan = on_card(batch=6, bits=16, checkpointing=False, optimizer="adamw_torch")
    found = remedies(estimate(BIG, plan), machine(vram=7.8))
    assert [remedy.name for remedy in found] == ["batch", "checkpointing", "4bit", "length"]
    assert [remedy.fits for remedy in found] == [False, False, False, True]
    needs = [remedy.estimate.vram for remedy in found]
    assert needs == sorted(needs, reverse=True)
    assert found[-1].estimate.plan.batch * found[-1].estimate.plan.accumulation == 6


def test_where_nothing_helps_the_last_remedy_says_so() -> None:
    found = remedies(estimate(BIG, on_card()), machine(vram=2))
    assert [remedy.name for remedy in found] == ["batch", "length", "rank"]
    assert not any(remedy.fits for remedy in found)


def test_this_machine(tmp_path: Path) -> None:
    here = memory.machine(tmp_path / "not" / "there" / "yet")
    assert 0 < here.ram[0] <= here.ram[1] <= psutil.virtual_memory().total
    assert 0 < here.disk[0] <= here.disk[1]
    assert all(free <= total for free, total in here.cards)


def test_cards_are_read_from_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho '80994, 81559'\necho '100, 81559'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert memory.machine(tmp_path).cards == ((80994 * MIB, 81559 * MIB), (100 * MIB, 81559 * MIB))
    fake.write_text("#!/bin/sh\necho '[N/A], 81559'\n")
    assert memory.machine(tmp_path).cards == ()


@pytest.mark.parametrize(
    ("count", "words"), [(int(6.29 * GIB), "6.3 GiB"), (512 * MIB, "512 MiB"), (12 * 1024, "12 KiB"), (0, "0 KiB")]
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert memory.size(count) == words


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
@pytest.mark.parametrize(
    "setting",
    [
        {"batch": 2, "length": 256, "checkpointing": True},
        {"batch": 1, "length": 256, "checkpointing": False},
    ],
)
def test_a_real_run_on_this_cpu(setting: dict[str, Any], demo_models: Path) -> None:
    from benchmarks.train_memory import estimated, measured

    folder = demo_models / "smollm2"
    assert estimated(folder, setting).ram == pytest.approx(measured(folder, setting)["trained"], rel=0.2)
