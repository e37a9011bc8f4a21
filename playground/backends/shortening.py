"""Which of a conversation's oldest turns have to go so that the rest fits."""

from bisect import bisect_left
from collections.abc import Callable

from playground.protocol import RowRequest


class Shorter:
    """A request without its oldest turns. `most`: how many can go, so that its last question is left."""

    def __init__(self, request: RowRequest) -> None:
        self._request = request
        self._users = [place for place, message in enumerate(request.messages) if message.role == "user"]
        self.most = 0 if request.whole else max(len(self._users) - 1, 0)

    def without(self, dropped: int) -> RowRequest:
        """Return it without so many questions and what follows each; what stands before the first stays."""
        if not dropped:
            return self._request
        said = self._request.messages
        return self._request.model_copy(update={"messages": said[: self._users[0]] + said[self._users[dropped] :]})


def least_fitting(most: int, fits: Callable[[int], bool]) -> int:
    """Return the fewest turns to drop so that the rest fits; `most` do, none do not."""
    step, high = 1, most
    while high - step > 0 and fits(high - step):
        high, step = high - step, 2 * step
    low = max(high - step, 0)
    return low + 1 + bisect_left(range(low + 1, high), True, key=fits)
