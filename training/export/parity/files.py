"""Step 1: hyperparameters, vocabulary and every tensor of the files, against the source's. Runs no model.

VariantError says that the files of a build cannot be read; the session makes a finding of it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from playground.catalogue.files import check_base, read_json
from playground.system.hardware import usable_cores
from training.export.parity import diagnosis, hyperparameters, vocabulary
from training.export.parity.arrival import Trials, Try
from training.export.parity.lora import Lora
from training.export.parity.pairs import CHECKED, Pair, Pairing, folder_pairs, gguf_pairs, head_pair
from training.export.parity.rounding import tried
from training.export.parity.source import HEAD, Source, text_config
from training.export.parity.tensors import Compared, compare
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Step
from training.export.parity.weights import FolderWeights, GgufWeights, Weights

Progress = Callable[[float], None]
SHAPING = ("lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out", "alpha_pattern", "rank_pattern")
"""What of an adapter's config decides what it adds."""
CLOSE = 1e-3
WIDE_ENOUGH = 100_000
"""Bytes from which a storage type is worth naming."""


def check_gguf(source: Source, file: Path, level: str, progress: Progress) -> Step:
    """Compare a GGUF file with base + adapter."""
    step, built = Step(), GgufWeights(file)
    hyperparameters.compare_gguf(source.config, built, step)
    vocabulary.compare_gguf(source.tokenizer, built, step)
    vocabulary.compare_ends(
        vocabulary.ends_of_source(source.folder, source.tokenizer), vocabulary.ends_of_gguf(built), step
    )
    pairing = gguf_pairs(source, built)
    _judge_names(
        pairing,
        [name for name in pairing.extra if name not in hyperparameters.ROPE_TENSORS],
        built.arch in CHECKED,
        step,
    )
    _check_head(source, built, pairing, None, step)
    _compare_all(pairing, source, built, step, progress)
    _say_types(built, level, step)
    return step


def check_folder(source: Source, folder: Path, progress: Progress) -> Step:
    """Compare a Hugging Face folder, merged or with packed four-bit groups, with base + adapter."""
    check_base(folder)
    step, built = Step(), FolderWeights.of_model(folder)
    config = text_config(read_json(folder / "config.json"))
    hyperparameters.compare_configs(source.config, config, step)
    vocabulary.compare_folders(source.tokenizer, folder, step)
    vocabulary.compare_ends(
        vocabulary.ends_of_source(source.folder, source.tokenizer), vocabulary.ends_of_folder(folder), step
    )
    pairing = folder_pairs(source, built)
    _judge_names(pairing, pairing.extra, True, step)
    flag = config.get("tie_word_embeddings")
    _check_head(source, built, pairing, None if flag is None else bool(flag), step)
    _compare_all(pairing, source, built, step, progress)
    return step


def check_adapter(source: Source, folder: Path, progress: Progress) -> Step:
    """Compare an adapter folder with the source's own adapter."""
    step, built = Step(), Lora(folder)
    if source.adapter is None:
        step.fail("weights", "The source has no adapter.")
        return step
    changed = [key for key in SHAPING if built.config.get(key) != source.adapter.config.get(key)]
    if changed:
        step.fail("hyperparameters", f"The adapter's settings differ: {', '.join(changed)}.")
    ours, theirs = source.adapter.weights, built.weights
    odd = sorted(set(ours.names()) ^ set(theirs.names()))
    odd += [name for name in ours.names() if name not in odd and not _equal(name, ours, theirs)]
    if odd:
        step.fail("weights", f"{len(odd)} of the adapter's tensors are missing or differ: {odd[0]}.")
    else:
        step.note(f"{len(ours.names())} tensors of the adapter agree.")
    progress(1.0)
    return step


def _equal(name: str, ours: FolderWeights, theirs: FolderWeights) -> bool:
    if ours.shape(name) != theirs.shape(name):
        return False
    want, got = ours.rows(name, slice(None)), theirs.rows(name, slice(None))
    return bool(np.linalg.norm(got - want) <= CLOSE * np.linalg.norm(want))


def _judge_names(pairing: Pairing, extra: list[str], is_known: bool, step: Step) -> None:
    if pairing.missing:
        shown = ", ".join(pairing.missing[:3])
        step.fail("weights", f"{len(pairing.missing)} tensors are missing: {shown}.")
    if pairing.unknown:
        step.warn("weights", f"{len(pairing.unknown)} tensors have no known name there: {pairing.unknown[0]}.")
    extra = [name for name in extra if not name.startswith(("output.", "lm_head."))]
    if extra and is_known:
        step.warn("weights", f"{len(extra)} tensors are there that the source does not have: {', '.join(extra[:3])}.")


def _check_head(source: Source, built: Weights, pairing: Pairing, flag: bool | None, step: Step) -> None:
    """Judge an output layer of a build whose source uses its embedding for it: untied for no reason, or wrongly.

    `flag` is what a config.json says of tying; None where there is no such word, as in GGUF.
    """
    pair = head_pair(source, pairing.extra)
    if source.unknown and pair is not None:
        return
    if pair is None:
        if source.tied and flag is False:
            step.fail("hyperparameters", "Tied embeddings were untied without an output layer: it would be random.")
        return
    if built.shape(pair.built)[-1] != source.shape(HEAD)[-1]:
        step.fail("hyperparameters", f"Tied embeddings were untied, and {pair.built} has another width.")
        return
    compared = compare(pair, source, built)
    if compared.error() <= 2 * thresholds().of_tensor(compared.kind):
        if not source.unties and not flag:
            size = f"{compared.numbers / 1e6:.0f}M numbers"
            step.warn("hyperparameters", f"Tied embeddings were untied: a copy of {size}, which says the same.")
    elif not flag:
        step.fail(
            "hyperparameters",
            f"Tied embeddings were untied, and the output layer {pair.built} is not the embedding "
            f"(error {compared.error():.2f}).",
        )


def _compare_all(pairing: Pairing, source: Source, built: Weights, step: Step, progress: Progress) -> None:
    """Compare every tensor in turn, then judge what the errors say together."""
    fitting, compared = _fitting(pairing, source, built, step), list[Compared]()
    with ThreadPoolExecutor(usable_cores()) as pool:  # numpy lets go of the interpreter while it computes
        for item in pool.map(lambda pair: compare(pair, source, built), fitting):
            compared.append(item)
            progress(len(compared) / len(fitting))
    step.numbers["tensors"] = len(compared)
    if source.unknown:
        step.numbers["not_judged"] = source.unknown
        step.note(f"The weights cannot be judged here: {source.unknown}. Text, numbers and answers are.")
        return
    step.numbers["types"] = diagnosis.table(compared)
    if rest := source.not_followed:
        step.warn("merge", f"{len(rest)} tensors were not compared ({rest[0]}): the numbers must judge them.")
    before = step.failed
    diagnosis.diagnose(compared, _trying(fitting, source, built), step)
    if compared and step.failed == before:
        worst = max(compared, key=lambda item: item.error())
        place = f"{worst.error():.4f} ({worst.kind} {worst.built})"
        step.note(f"{len(compared)} tensors compared; the largest error is {place}.")


def _trying(pairs: list[Pair], source: Source, built: Weights) -> Try:
    """Return what rounds samples of these tensors, several at a time."""
    by_name = {pair.built: pair for pair in pairs}

    def attempt(items: Sequence[Compared], times: Sequence[float]) -> Trials:
        with ThreadPoolExecutor(usable_cores()) as pool:  # ggml lets go of the interpreter, too
            found = pool.map(lambda item: tried(by_name[item.built], source, built, times), items)
            return {item.built: trial for item, trial in zip(items, found, strict=True)}

    return attempt


def _fitting(pairing: Pairing, source: Source, built: Weights, step: Step) -> list[Pair]:
    """Return the pairs whose shapes agree; a vocabulary may be padded on either side."""
    fitting, odd = list[Pair](), list[Pair]()
    for pair in pairing.pairs:
        want, got = source.shape(pair.source), built.shape(pair.built)
        is_words = pair.source.startswith(("embed_tokens", "lm_head"))
        stacked = len(got) > len(want) and want[1:] == got[2:]
        same = want == got or stacked or (is_words and want[1:] == got[1:])
        (fitting if same else odd).append(pair)
    if odd:
        pair = odd[0]
        want, got = source.shape(pair.source), built.shape(pair.built)
        step.fail("weights", f"{len(odd)} tensors have another shape: {pair.built} is {got} and should be {want}.")
    return fitting


def _say_types(built: GgufWeights, level: str, step: Step) -> None:
    """Say what the file holds by storage type, and whether that is what its level promised."""
    from gguf import LlamaFileType

    sizes: Counter[str] = Counter()
    for name in built.names():
        sizes[built.kind(name)] += built.size(name)
    step.numbers["bytes"] = dict(sizes)
    shown = ", ".join(f"{size / 1e6:.1f} MB {kind}" for kind, size in sizes.most_common() if size > WIDE_ENOUGH)
    step.note(f"Stored as {shown or ', '.join(sizes)}.")
    number = built.meta("general.file_type")
    if number is None or not level or number not in {item.value for item in LlamaFileType}:
        return
    name = LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
    if name != level.lower():
        step.warn("file", f"The file calls itself {name.upper()}, and {level.upper()} was asked for.")
