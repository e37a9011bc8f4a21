"""Steps that are captured once and replayed: a card is given all their kernels at once, where Python needs far longer.

On a processor, and wherever nothing is captured, the step itself runs.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

LOG = logging.getLogger(__name__)
MOST = 64
"""Steps kept: the one used longest ago goes first."""


class Graphs:
    """Steps by what they were captured for. A step works on memory that stays where it is, and returns nothing."""

    def __init__(self, device: torch.device, captures: bool) -> None:
        self._device, self._captures = device, captures
        self._made: OrderedDict[Hashable, torch.cuda.CUDAGraph] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle() if captures else None

    def run(self, key: Hashable, step: Callable[[], None], try_out: Callable[[], None]) -> None:
        """Run a step; `try_out` runs it once with no lasting effect, since kernels cannot be loaded in a capture."""
        if not self._captures:
            step()
            return
        if key not in self._made:
            try:
                self._made[key] = self._capture(step, try_out)
            except RuntimeError as error:
                LOG.warning("steps run without a capture: %s", error)
                self._captures = False
                step()
                return
            if len(self._made) > MOST:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        self._made[key].replay()

    def forget(self) -> None:
        """Drop all: the memory they work on is another now, and a pool ends with its last graph."""
        self._made.clear()
        self._pool = torch.cuda.graph_pool_handle() if self._captures else None

    def _capture(self, step: Callable[[], None], try_out: Callable[[], None]) -> torch.cuda.CUDAGraph:
        here, aside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(2):  # what the first finds out (which layers are fed alike), the second makes ready
                try_out()
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                step()
            finally:
                graph.capture_end()
        here.wait_stream(aside)
        return graph
