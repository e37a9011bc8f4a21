"""The likeliest tokens of one place, best first, in nats."""

import numpy as np
import pytest

from playground.backends.logprobs import likeliest, logsumexp, token_logprob

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], dtype=np.float32)) + 5


def piece(token: int) -> bytes:
    return bytes([65 + token])


def test_a_token_and_the_likeliest_of_its_place() -> None:
    found = token_logprob(LOGITS, 2, 2, piece)
    assert (found.id, found.raw) == (2, (67,))
    assert found.logprob == pytest.approx(np.log(0.2), abs=1e-6)
    assert [(one.id, one.raw) for one in found.top] == [(1, (66,)), (3, (68,))]
    assert [one.logprob for one in found.top] == pytest.approx(np.log([0.4, 0.3]), abs=1e-6)


@pytest.mark.parametrize(("top", "ids"), [(0, []), (1, [1]), (4, [1, 3, 2, 0]), (9, [1, 3, 2, 0])])
def test_so_many_as_are_asked_for_and_there_are(top: int, ids: list[int]) -> None:
    assert [token for token, _ in likeliest(LOGITS, logsumexp(LOGITS), top)] == ids


def test_large_logits_stay_finite() -> None:
    logits = np.array([3e4, 3e4, -np.inf], dtype=np.float32)
    assert logsumexp(logits) == pytest.approx(3e4 + np.log(2))
    assert [token for token, _ in likeliest(logits, logsumexp(logits), 2)] == [0, 1]
