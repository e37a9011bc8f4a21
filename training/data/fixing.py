"""Makes the cleaned copy: what cannot be used is left out, what can be repaired is repaired, nothing else changes."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from playground.errors import ConfigError
from playground.system.atomic import replacing, room_for
from training.data.checks import CONTENT, Sight, duplicates
from training.data.encodings import mended
from training.data.examples import Example, Turn
from training.data.findings import Finding
from training.data.formats import Data
from training.data.turns import turned

MENDED = {"mojibake", "decomposed", "control-characters", "half-characters"}
"""Checks whose rows are repaired; the rows of all others that `--fix` handles are left out."""


def fix(data: Data, findings: Iterable[Finding]) -> tuple[Data, dict[str, int]]:
    """Return the rows that are left, repaired, and how many rows each check repaired or left out.

    What a repair brings to light (a row that now repeats another, or says nothing) is left out as well.
    """
    handled = [finding for finding in findings if finding.fix and finding.rows]
    repair = {row for finding in handled if finding.check in MENDED for row in finding.rows}
    drop = {row for finding in handled if finding.check not in MENDED for row in finding.rows}
    done = Counter[str]()
    for finding in handled:
        done[finding.check] += finding.count
    kept = [_mended(e) if e.row in repair else e for e in data.examples if e.row not in drop]
    kept = _without_new_faults(replace(data, examples=kept), done)
    return replace(data, examples=kept, findings=[]), dict(done)


def _mended(example: Example) -> Example:
    return replace(
        example,
        turns=tuple(
            turn._replace(
                content=mended(turn.content),
                thought=mended(turn.thought),
                input=mended(turn.input),
                extra=_mended_in(turn.extra),
            )
            for turn in example.turns
        ),
        tools=_mended_in(example.tools),
        text=mended(example.text),
        chosen=mended(example.chosen),
        rejected=mended(example.rejected),
        columns=json.dumps(_mended_in(json.loads(example.columns)), ensure_ascii=False) if example.columns else "",
    )


def _mended_in(value: Any) -> Any:
    """Return a value with every text in it repaired."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, dict):
        return {name: _mended_in(inner) for name, inner in value.items()}
    return type(value)(map(_mended_in, value)) if isinstance(value, list | tuple) else value


def _without_new_faults(data: Data, done: Counter[str]) -> list[Example]:
    sight = Sight(data)
    for look in (*CONTENT, duplicates):
        for finding in look(sight):
            if finding.fix:
                sight.lost.update(finding.rows)
                done[finding.check] += finding.count
    return [example for example in data.examples if example.row not in sight.lost]


def write_fixed(target: Path, data: Data, source: str) -> None:
    """Write a cleaned copy as JSON lines, in the columns of its kind. Whole or not at all, never the source."""
    _check_target(target, source)
    if not data.examples:
        raise ConfigError(f"Nothing of {data.name} would be left.", "Correct the rows that the findings name.")
    lines = [json.dumps(_row(example), ensure_ascii=False) + "\n" for example in data.examples]
    need = sum(len(line.encode()) for line in lines)
    with (
        room_for(need, target.parent, "The cleaned copy"),
        replacing(target) as part,
        part.open("w", encoding="utf-8") as file,
    ):
        file.writelines(lines)


def _check_target(target: Path, source: str) -> None:
    original = Path(source).expanduser()
    if target.suffix != ".jsonl":
        raise ConfigError(f"The cleaned copy {target} must be named .jsonl.", f"Write {target.with_suffix('.jsonl')}.")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder.", f"Name a file in it: {target / 'clean.jsonl'}.")
    if original.exists() and target.resolve() == original.resolve():
        raise ConfigError(f"The cleaned copy would replace its source, {source}.", "Choose another name for it.")
    if original.is_dir() and target.resolve().is_relative_to(original.resolve()):
        raise ConfigError(f"{target} lies in the folder that is checked.", "Choose another place for the copy.")


def _row(example: Example) -> dict[str, Any]:
    tools = json.dumps(example.tools, ensure_ascii=False)  # in which null stays what it is
    return _said(example) | ({"tools": tools} if example.tools else {})


def _said(example: Example) -> dict[str, Any]:
    if example.kind == "text":
        return {"text": example.text}
    if example.kind == "conversation":
        return {"messages": _messages(example.turns)}
    if example.kind == "rated":
        return {"messages": _messages(example.turns), "label": example.good}
    if example.kind == "prompt":
        read = () if example.text else ("system", "system_prompt", "history")  # these are turns now
        others = {name: value for name, value in json.loads(example.columns).items() if name not in read}
        return {"prompt": example.text or _messages(example.turns)} | others
    if _is_plain(example):
        return {"prompt": example.turns[0].content, "chosen": example.chosen, "rejected": example.rejected}
    sides = {"chosen": example.chosen, "rejected": example.rejected}
    answers = {name: _messages([Turn("assistant", answer)]) for name, answer in sides.items()}
    return {"prompt": _messages(example.turns), **answers}


def _is_plain(pair: Example) -> bool:
    """Return whether a pair is one question and two answers, none of which would be read as anything else."""
    turns = [(turn.role, turn.input) for turn in pair.turns]
    return turns == [("user", "")] and all(isinstance(turned(text), str) for text in pair.written)


def _messages(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    return [
        {"role": turn.role, "content": turn.content}
        | ({"reasoning_content": turn.thought} if turn.thought else {})
        | ({"input": turn.input} if turn.input else {})
        | turn.extra
        | ({} if turn.mark is None else {"train": turn.mark} if turn.mark else {"weight": 0})
        for turn in turns
    ]
