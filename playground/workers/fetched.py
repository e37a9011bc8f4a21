"""How far the download of a variant is, as `madang models fetch` writes it down and the page reads it."""

from playground.system.progress import Progress


class Fetched(Progress):
    """The share of the bytes that came, and which file they are of."""

    share: float = 0.0
    what: str = ""
