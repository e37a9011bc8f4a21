"""Parity as HTML: one badge per artefact, the likely causes, and how far each build drifted. Judges nothing."""

from playground.page.markup import escaped
from training.export.parity import Cause, Grade, Verdict
from training.ui.export_sizes import called
from training.ui.exporting import ExportRow
from training.words import both, texts


def badge(verdict: Verdict | None) -> str:
    """Return pass, warn or fail as a badge; nothing where the artefact was not judged."""
    if verdict is None:
        return ""
    return f'<em class="verdict-{verdict.verdict}">{both(f"export.verdict_{verdict.verdict}")}</em>'


def causes(verdict: Verdict | None) -> str:
    """Return what probably broke, one sentence per cause."""
    if verdict is None or verdict.verdict == "pass":
        return ""
    said = "".join(f"<li>{_cause(cause, verdict.verdict)}</li>" for cause in verdict.causes)
    return f'<ul class="causes {verdict.verdict}">{said}</ul>' if said else ""


def _cause(cause: Cause, grade: Grade) -> str:
    """Return what the cause means and what helps; a milder sentence where there is one for a warning."""
    key = f"export.cause_{cause}"
    if grade == "warn" and f"{key}_warn" in texts:
        return both(f"{key}_warn")
    return f'{both(key)} <small class="remedy">{both(f"export.remedy_{cause}")}</small>'


def html(one: ExportRow) -> str:
    """Return the table of drifts, and all that the checks said."""
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
    drift, answers = verdict.drift, verdict.step("answers")
    if drift is None:
        return ""
    against = f"<small>{both('export.drift_against', name=drift.against)}</small>"
    same = f"{answers['same']} / {answers['answers']}" if "same" in answers else "–"
    cells = (f"{drift.mean_kl:.4f}", f"{drift.same_top:.1%}", f"×{drift.perplexity_ratio:.3f}", same)
    shown = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><td><b>{called(label)}</b>{against}</td>{shown}</tr>"


def _lines(label: str, verdict: Verdict) -> str:
    lines = "".join(f'<li lang="en">{escaped(line)}</li>' for line in verdict.lines)
    rows = _steps(verdict) + lines
    if not rows:
        return ""
    shown = " open" if verdict.verdict == "fail" else ""
    summary = both("export.compared", name=called(label))
    return f'<details class="compared"{shown}><summary>{summary}</summary><ul>{rows}</ul></details>'


def _steps(verdict: Verdict) -> str:
    """Return what each step compared, in both languages; the lines that follow say it in English, in every detail."""
    files, text, answers = (verdict.step(name) for name in ("files", "text", "answers"))
    said = []
    if "tensors" in files:
        said.append(both("export.step_files", count=files["tensors"]))
    if "tokens" in text:
        said.append(both("export.step_text", conversations=text["conversations"], tokens=text["tokens"]))
    if drift := verdict.drift:
        said.append(both("export.step_numbers", kl=f"{drift.mean_kl:.4f}", top=f"{drift.same_top:.1%}"))
    if "same" in answers:
        said.append(both("export.step_answers", count=answers["answers"], same=answers["same"]))
    return "".join(f"<li>{line}</li>" for line in said)
