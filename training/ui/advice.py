"""The guide's advice beside each field; a value in it is a button that sets the field. Data in words, drawn here."""

from playground.page.markup import button, table
from playground.system import hardware
from training.words import both

RANKS = (
    ("8", "21M", "80 MB"),
    ("16", "42M", "160 MB"),
    ("32", "84M", "320 MB"),
    ("64", "168M", "640 MB"),
    ("128", "336M", "1.3 GB"),
)
"""Rank, trainable parameters and further memory for a model of 8B, seven linear layers."""
RATES = {
    "qlora": ("2e-4",),
    "many": ("1e-4",),
    "few": ("5e-5", "1e-4"),
    "domain": ("2e-5", "5e-5"),
    "cpt": ("1e-5", "5e-5"),
    "dpo": ("5e-7",),
    "kto": ("1e-6",),
    "orpo": ("8e-6",),
}
"""Learning rates by scenario: one, or the two ends of a range."""
BATCHES = (("8", "1", "12 GB"), ("2", "4", "6 GB"), ("1", "8", ""))


def beside(field: str) -> str:
    """Return the advice of one field as HTML; a sentence where it is no table."""
    tables = {"rank": _ranks, "learning_rate": _rates, "batch": _batches}
    return f'<div class="advice">{tables[field]() if field in tables else _sentence(field)}</div>'


def _sentence(field: str) -> str:
    more = both("advice.no_card") if field == "load_in_4bit" and not hardware.vram_total() else ""
    return f"<p>{both(f'advice.{field}')} {more}</p>"


def _ranks() -> str:
    head = (both(f"advice.rank_{name}") for name in ("r", "parameters", "memory", "use"))
    rows = ((_set(f"rank={r}", r), parameters, memory, both(f"advice.rank_{r}")) for r, parameters, memory in RANKS)
    return f"{table(rows, head)}<p>{both('advice.rank')}</p>"


def _rates() -> str:
    ranges = {name: " – ".join(_set(f"learning_rate={rate}", rate) for rate in rates) for name, rates in RATES.items()}
    rows = ((shown, both(f"advice.rate_{name}")) for name, shown in ranges.items())
    return f"{table(rows)}<p>{both('advice.learning_rate')}</p>"


def _batches() -> str:
    rows = (
        (
            _set(f"batch={batch},accumulation={accumulation}", f"{batch} × {accumulation}"),
            both("advice.about", memory=memory) if memory else "",
            both(f"advice.batch_{batch}"),
        )
        for batch, accumulation, memory in BATCHES
    )
    return f"<p>{both('advice.batch')}</p>{table(rows)}"


def _set(values: str, text: str) -> str:
    return button("set", values, text)
