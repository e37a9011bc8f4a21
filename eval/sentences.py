"""Put statistics into plain sentences, Korean and English; the words are data in eval/locales. Computes nothing."""

from eval.paired import Difference, Loss
from eval.words import words
from playground.wording import Language


def sentence(result: Difference | Loss, language: Language = "en") -> str:
    """Say in one sentence what these documents show; Holm's correction is named where it was applied."""
    texts = words(language)
    if isinstance(result, Difference):
        text = texts[f"difference.{_difference_key(result)}"].format(
            n=f"{result.n:,}", points=points(abs(result.value)), smallest=points(result.smallest or 0)
        )
    else:
        text = texts[f"loss.{result.verdict}"].format(
            n=f"{result.n:,}", margin=_margin(result.margin, texts), bound=points(result.bound)
        )
    return text + (texts["paired.holm"].format(family=result.family) if result.family > 1 else "")


def reason(base: str, task: str, language: Language = "en", why: str = "unasked") -> str:
    """Say why a row cannot be compared: its base was not asked the task at the same setting, or it is `untested`."""
    return words(language)[f"difference.{why}"].format(base=base, task=task)


def points(share: float) -> str:
    """Return a share of 1 as points of 100 with one decimal."""
    return f"{100 * share:.1f}"


def _difference_key(result: Difference) -> str:
    if result.verdict != "undecided":
        return result.verdict
    if not result.n:
        return "nothing"
    return "too_few" if result.smallest is None else "undecided"


def _margin(margin: float, texts: dict[str, str]) -> str:
    number = f"{100 * margin:.2f}".rstrip("0").rstrip(".")
    return texts["paired.point" if number == "1" else "paired.points"].format(number=number)
