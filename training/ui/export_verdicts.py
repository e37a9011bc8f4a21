"""Parity as HTML: a badge an artefact, the likely causes, and how far each build drifted. Judges nothing."""

from collections.abc import Mapping
from typing import Any

from playground.page.markup import escaped
from training.ui.export_sizes import called
from training.ui.exporting import ExportRow
from training.words import both, texts

Verdict = Mapping[str, Any]


def badge(verdict: Verdict) -> str:
    """Pass, warn or fail; nothing where it was not judged."""
    outcome = verdict.get("verdict")
    if outcome not in ("pass", "warn", "fail"):
        return ""
    return f'<em class="verdict-{outcome}">{both(f"export.verdict_{outcome}")}</em>'


def causes(verdict: Verdict) -> str:
    """What probably broke, a sentence a cause."""
    if verdict.get("verdict") not in ("warn", "fail"):
        return ""
    said = "".join(f"<li>{_cause(str(cause), verdict['verdict'])}</li>" for cause in verdict.get("causes") or ())
    return f'<ul class="causes {verdict["verdict"]}">{said}</ul>' if said else ""


def _cause(cause: str, outcome: str) -> str:
    """What it is and what helps; a milder sentence where there is one for a warning."""
    key = f"export.cause_{cause}"
    if outcome == "warn" and f"{key}_warn" in texts:
        return both(f"{key}_warn")
    if key not in texts:
        return escaped(cause)
    return f'{both(key)} <small class="remedy">{both(f"export.remedy_{cause}")}</small>'


def html(one: ExportRow) -> str:
    """The drift table, and all that the checks said."""
    verdicts = one.folder.verdicts() if one.folder else {}
    if not verdicts:
        return ""
    rows = "".join(_row(label, verdict) for label, verdict in verdicts.items())
    table = ""
    if rows:
        names = ("build", "kl", "top", "perplexity", "answers")
        head = "".join(f"<th>{both(f'export.drift_{name}')}</th>" for name in names)
        table = (
            f'<h4>{both("export.drift")}</h4><div class="drift"><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{rows}</tbody></table></div><p class="soft">{both("export.drift_info")}</p>'
        )
    return table + "".join(_lines(label, verdict) for label, verdict in verdicts.items())


def _row(label: str, verdict: Verdict) -> str:
    numbers = verdict.get("numbers") or {}
    drift, answers = numbers.get("numbers") or {}, numbers.get("answers") or {}
    if "mean_kl" not in drift:
        return ""
    against = f"<small>{both('export.drift_against', name=drift['against'])}</small>"
    same = f"{answers['same']} / {answers['answers']}" if {"same", "answers"} <= answers.keys() else "–"
    cells = (f"{drift['mean_kl']:.4f}", f"{drift['same_top']:.1%}", f"×{drift['perplexity_ratio']:.3f}", same)
    shown = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><td><b>{called(label)}</b>{against}</td>{shown}</tr>"


def _lines(label: str, verdict: Verdict) -> str:
    lines = "".join(f'<li lang="en">{escaped(line)}</li>' for line in verdict.get("lines") or ())
    rows = _steps(verdict.get("numbers") or {}) + lines
    if not rows:
        return ""
    shown = " open" if verdict.get("verdict") == "fail" else ""
    summary = both("export.compared", name=called(label))
    return f'<details class="compared"{shown}><summary>{summary}</summary><ul>{rows}</ul></details>'


def _steps(numbers: Mapping[str, Any]) -> str:
    """What each step compared, in both languages; the sentences that follow say it in English, with every detail."""
    files, text = numbers.get("files") or {}, numbers.get("text") or {}
    drift, answers = numbers.get("numbers") or {}, numbers.get("answers") or {}
    said = []
    if "tensors" in files:
        said.append(both("export.step_files", count=files["tensors"]))
    if {"conversations", "tokens"} <= text.keys():
        said.append(both("export.step_text", **{name: text[name] for name in ("conversations", "tokens")}))
    if "mean_kl" in drift:
        said.append(both("export.step_numbers", kl=f"{drift['mean_kl']:.4f}", top=f"{drift['same_top']:.1%}"))
    if {"same", "answers"} <= answers.keys():
        said.append(both("export.step_answers", count=answers["answers"], same=answers["same"]))
    return "".join(f"<li>{line}</li>" for line in said)
