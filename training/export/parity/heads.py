"""The output layer of a build whose source uses its embedding for it: untied for no reason, or tied for want of one."""

from training.export.parity.pairs import Pairing, head_pair
from training.export.parity.source import HEAD, Source
from training.export.parity.tensors import compare
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Step
from training.export.parity.weights import Weights


def check(source: Source, built: Weights, pairing: Pairing, flag: bool | None, step: Step) -> None:
    """`flag` is what a config.json says of tying; None where there is no such word, as in GGUF."""
    pair = head_pair(source, pairing.extra)
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
