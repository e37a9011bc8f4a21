"""Ctrl-C asks first, then ends, and afterwards means what it meant."""

import signal

import pytest

from playground.system.interrupts import asked_to_stop


def test_the_first_one_asks_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with asked_to_stop() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
