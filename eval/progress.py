"""How far a call of `madang eval` is: for the terminal, and in the file that the page reads."""

from playground.system import progress


class Progress(progress.Progress):
    """Which run of how many, what it does now, and how much of that is done; `left_s`: None before that can be told.

    `plans`: the variant and the shots of each run.
    """

    run: int = 0
    runs: int = 1
    plans: tuple[tuple[str, int], ...] = ()
    variant: str = ""
    shots: int = 0
    step: str = ""
    done: int = 0
    total: int = 0
    left_s: float | None = None
