"""Events are cut out of bytes as the standard says, in whatever parts these come."""

import pytest

from playground.remote.sse import Events, TooLong

STREAM = "\ufeffdata: 하나\r\n: comment\r\ndata: more\r\n\r\nevent: x\ndata:둘\n\ndata\n\nid: 7\n\n".encode()


@pytest.mark.parametrize("size", [1, 2, 3, 5, len(STREAM)])
def test_events_are_cut_alike_however_they_come(size: int) -> None:
    events = Events()
    found = [data for at in range(0, len(STREAM), size) for data in events.feed(STREAM[at : at + size])]
    assert found == ["하나\nmore", "둘", ""]
    assert events.end() is None


def test_an_event_of_many_lines_is_bounded() -> None:
    events = Events(limit=100)
    with pytest.raises(TooLong):
        list(events.feed(b"data: 0123456789\n" * 20))
