"""A conversation as a file: Markdown to read, JSON that gives back the same tree, ShareGPT and rows to train on."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from playground.conversations.turns import Chat, Turn, fresh_id, title_of
from playground.errors import ConfigError
from playground.escape import HALVES, in_markdown, visible
from playground.system import atomic, documents
from playground.wording import worded

FORM, VERSION = "madang-conversation", 1
LARGEST = 32 << 20
ROWS = Path("rows") / "from-chat.jsonl"
"""Where turns become training rows, below the data folder."""
EXPORT_FIRST = "exports.export_first"


def markdown(chat: Chat) -> str:
    """Return what is in view, question by question, with every variant's answer below its name and numbers."""
    parts = [f"# {in_markdown(chat.title)}"]
    for turn in chat.turns:
        parts += ["", *(f"> {line}" for line in visible(turn.question).splitlines())]
        for name, answer in turn.answers.items():
            numbers = ", ".join(f"{key} {value}" for key, value in facts(turn, name).items())
            parts += ["", f"## {in_markdown(name)}", "", visible(answer.text), *([f"\n_{numbers}_"] if numbers else [])]
    return "\n".join(parts) + "\n"


def facts(turn: Turn, variant: str) -> dict[str, str]:
    """Return what an answer can be made again with, and how long it took; nothing where a person wrote it."""
    answer = turn.answers[variant]
    if answer.edited or answer.started is None:
        return {}
    found = {"seed": str(answer.started.seed), "dtype": answer.started.dtype}
    found["temperature"] = f"{turn.asked_of(variant).sampling.temperature:g}"
    if variant in turn.own and (system := turn.own[variant].system.strip()):
        found["system prompt"] = " ".join(in_markdown(system).split())
    if answer.before:
        found["went on after"] = f"{len(answer.before):,} characters"
    stats = getattr(answer.end, "stats", None)
    if stats and stats.first_token_s is not None:
        found["first token"] = f"{stats.first_token_s:.2f} s"
    if stats and stats.tokens_per_s:
        found["speed"] = f"{stats.tokens_per_s:.1f} tok/s"
    return found


def as_json(chat: Chat) -> str:
    """Return the whole tree: every variant's answers with seeds, sampling and timings."""
    turns = [turn.model_dump(mode="json") for turn in chat.tree.values()]
    said = {"form": FORM, "version": VERSION, "title": chat.title, "leaf": chat.leaf, "turns": turns}
    return json.dumps(said, ensure_ascii=False, indent=1)


def from_json(text: str) -> Chat:
    """Return a conversation of its own, with the same tree, from what `as_json` wrote. Raises ConfigError."""
    if len(text) > LARGEST:
        raise ConfigError(
            worded("exports.file_characters_most", text_count=len(text), largest=LARGEST), worded(EXPORT_FIRST)
        )
    try:
        said = documents.parse(text.translate(HALVES), "JSON")
        if not isinstance(said, dict) or said.get("form") != FORM:
            raise ConfigError(worded("exports.file_no_conversation"), worded(EXPORT_FIRST))
        turns = [Turn.model_validate_json(json.dumps(row)) for row in said["turns"]]
        return _renamed(str(said["title"]), str(said["leaf"]), turns)
    except (KeyError, TypeError, ValidationError, ValueError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(worded("exports.file_cannot_read", fault=fault), worded(EXPORT_FIRST)) from error


def _renamed(title: str, leaf: str, turns: list[Turn]) -> Chat:
    """Give every turn a name of its own: those of the file may be taken here."""
    names = {turn.id: fresh_id() for turn in turns} | {"": ""}
    if len(names) <= len(turns) or leaf not in names or any(turn.parent not in names for turn in turns):
        raise ValueError("its turns do not hang together")
    tree = [turn.model_copy(update={"id": names[turn.id], "parent": names[turn.parent]}) for turn in turns]
    return Chat(id=fresh_id(), title=title_of(title), leaf=names[leaf], tree={turn.id: turn for turn in tree})


def sharegpt(chat: Chat) -> str:
    """Return what is in view as ShareGPT has it: one conversation a variant."""
    names = dict.fromkeys(name for turn in chat.turns for name in turn.answers)
    rows = [{"id": f"{chat.id}-{name}", "model": name, "conversations": _spoken(chat, name)} for name in names]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def _spoken(chat: Chat, variant: str) -> list[dict[str, str]]:
    said = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": said[row["role"]], "value": row["content"]} for row in messages(chat, variant)]


def messages(chat: Chat, variant: str, last: str = "") -> list[dict[str, Any]]:
    """Return a variant's questions and answers in view as roles and contents, up to the turn `last`."""
    found: list[dict[str, Any]] = []
    for turn in chat.turns:
        answer = turn.answers.get(variant)
        if answer and answer.text:
            system = turn.asked_of(variant).system
            if not found and system.strip():
                found.append({"role": "system", "content": system})
            found.append({"role": "user", "content": turn.question})
            found.append({"role": "assistant", "content": answer.text})
        if turn.id == last:
            break
    return found


def add_row(data: Path, chat: Chat, turn: Turn, variant: str) -> Path:
    """Append the conversation up to an answer as a row that training reads; return the file."""
    file = data / ROWS
    row = json.dumps({"messages": messages(chat.at(turn.id), variant)}, ensure_ascii=False)
    with atomic.explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as rows:
            rows.write(row + "\n")
    return file
