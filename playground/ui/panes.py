"""One pane as HTML: its head, its turns, and the prompt that the variant received. Pure: answers in, HTML out."""

import time
from collections.abc import Sequence

from playground.catalogue.variants import Variant
from playground.conversations.turns import Answer, Chat, Turn
from playground.escape import Markup, escaped
from playground.events import Failed, Finished, Progress, Stats
from playground.page.cards import badge
from playground.page.markdown import as_part, marked
from playground.page.markup import bar, button
from playground.page.number import size
from playground.page.words import both, card, tooltip
from playground.ui.running import Waiting


def head(variant: Variant, dtype: str) -> str:
    """Return name, kind and dtype."""
    name = escaped(variant.name)
    shown = f'<span class="pane-dtype" title="{tooltip("answer.dtype")}">{escaped(dtype)}</span>' if dtype else ""
    return f'<div class="pane-head"><h3 title="{name}">{name}</h3>{badge(variant.kind)}{shown}</div>'


def log(chat: Chat, variant: str) -> str:
    """Return what the variant heard and said before the last turn."""
    earlier = [turn for turn in chat.turns[:-1] if variant in turn.answers]
    missed = len(chat.turns[:-1]) - len(earlier)
    joined = f'<p class="aside">{both("chat.joined", count=missed)}</p>' if missed else ""
    return joined + "".join(_turn(chat, turn, variant) for turn in earlier)


def live(chat: Chat, variant: Variant) -> str:
    """Return the last turn, or what this pane is where nothing was asked yet."""
    if not chat.turns:
        return _empty(variant) + _onward(chat)
    if variant.name not in chat.turns[-1].answers:
        return f'<p class="aside">{both("chat.not_asked")}</p>'
    last = chat.turns[-1]
    ended = both("answer.ended", name=variant.name) if last.answers[variant.name].settled else ""
    return f'{_turn(chat, last, variant.name)}<p class="unseen" role="status">{ended}</p>{_onward(chat)}'


def prompt(chat: Chat, variant: str) -> str:
    """Return the exact text that the variant received last."""
    started = [turn.answers[variant].started for turn in chat.heard_by(variant)]
    last = started[-1] if started else None
    if last is None or not last.prompt:  # once another turn follows it is not kept
        return ""
    is_counted = last.prompt_tokens > 0  # a server elsewhere counts them at the end
    count = f"<small>{both('chat.prompt_tokens', count=f'{last.prompt_tokens:,}')}</small>" if is_counted else ""
    summary = f"<summary>{both('chat.prompt')}{count}</summary>"
    return f'<details class="prompt">{summary}<pre>{escaped(last.prompt)}</pre></details>'


def waiting(line: Sequence[Waiting]) -> str:
    """Return the questions that wait their turn, each with a button that takes it back; nothing where none does."""
    rows = "".join(
        f'<li><span class="ask">{escaped(one.question)}</span>{button("back", one.key, both("chat.take_back"))}</li>'
        for one in line
    )
    return f"<p>{both('chat.waiting')}</p><ol>{rows}</ol>" if rows else ""


def _empty(variant: Variant) -> str:
    base = getattr(variant, "base", None) or "?"
    what = both(f"chat.empty_{variant.kind}", base=base)
    return f'<div class="empty"><i class="yard"></i><p>{what}</p><p class="todo">{both("chat.empty_todo")}</p></div>'


def _turn(chat: Chat, turn: Turn, variant: str) -> str:
    answer = turn.answers[variant]
    return (
        f'<article class="turn"><div class="ask">{escaped(turn.question)}</div>{_ways(chat, turn)}'
        f"{_left_out(answer)}{_body(answer)}{_foot(turn, variant)}</article>"
    )


def _ways(chat: Chat, turn: Turn) -> str:
    """Return what can be done with a question: edit it, and walk to what was asked or answered otherwise there."""
    places = [one.id for one in chat.children(turn.parent)]
    walk = ""
    if len(places) > 1:
        where = f"<span>{escaped(f'{places.index(turn.id) + 1}/{len(places)}')}</span>"
        back, on = (_tool(act, turn.id, f"chat.{act}", sign) for act, sign in (("earlier", "‹"), ("later", "›")))
        walk = f'<span class="walk">{back}{where}{on}</span>'
    return f'<div class="ways">{walk}{_tool("ask_otherwise", turn.id, "chat.edit_question", "✎", edits=True)}</div>'


def _onward(chat: Chat) -> str:
    """Return the way to what was taken back behind the last turn; nothing where nothing was."""
    count = len(chat.children(chat.leaf)) if chat.tree else 0
    return f'<p class="onward">{button("onward", chat.leaf, both("chat.onward", count=count))}</p>' if count else ""


def _tool(action: str, name: str, label: str, sign: str, edits: bool = False) -> str:
    """Return a small button with a sign on it. With `edits` the page offers the text to edit before it reports it."""
    kind = f'data-edit="{action}" data-name="{escaped(name)}"' if edits else ""
    pressed = "" if edits else f'data-action="{action}" data-name="{escaped(name)}"'
    said = tooltip(label)
    return f'<button type="button" class="tool" {kind}{pressed} title="{said}" aria-label="{said}">{sign}</button>'


def _left_out(answer: Answer) -> str:
    """Return what the prompt does not hold as it was given: turns that did not fit, or that the template leaves out."""
    if answer.started is None:
        return ""
    dropped = answer.started.dropped_turns
    said = [both("answer.dropped", count=dropped)] * bool(dropped)
    said += [both(f"answer.{notice}") for notice in answer.started.notices]
    return "".join(f'<p class="aside">{text}</p>' for text in said)


def _body(answer: Answer) -> str:
    """Return the text so far, then what is still awaited or what went wrong."""
    state = "done" if answer.settled else "under-way"
    text = _thought(answer)
    text += (
        f'<div class="answer md {state}" data-parts>{marked(answer.text, not answer.settled)}</div>'
        if answer.text
        else ""
    )
    if isinstance(answer.end, Failed):
        return text + card("problem.broke" if text else "problem.failed", answer.end.message, answer.end.hint)
    if answer.lost:
        return f'{text}<p class="aside">{both("answer.lost")}</p>'
    if answer.end is None and not text:
        return _awaited(answer)
    if isinstance(answer.end, Finished) and not answer.text.strip() and answer.end.reason != "cancelled":
        said = "answer.only_thought" if answer.reasoning else "answer.silent"
        return f'{text}<p class="aside">{both(said)}</p>'
    return text


def _thought(answer: Answer) -> str:
    """Return what was thought before the answer, folded, with its tokens and time; nothing where nothing was."""
    if not answer.reasoning:
        return ""
    is_done = bool(answer.text or answer.end)
    counted = _thought_numbers(answer.end.stats) if isinstance(answer.end, Finished) else ""
    summary = f"<summary>{both('answer.thought' if is_done else 'answer.thinking')}<small>{counted}</small></summary>"
    return (
        f'<details class="thought {"done" if is_done else "thinking"}">{summary}'
        f'<div class="md" data-parts>{marked(answer.reasoning, not is_done)}</div></details>'
    )


def _thought_numbers(stats: Stats) -> str:
    shown = [both(_unit(stats), count=f"{stats.reasoning_tokens:,}")] if stats.reasoning_tokens else []
    shown += [] if stats.reasoning_s is None else [both("answer.seconds", count=f"{stats.reasoning_s:.1f}")]
    return " · ".join(shown)


def _awaited(answer: Answer) -> str:
    """Return what the variant does before its first token, with a bar, which moves where no share is known."""
    progress = answer.progress
    if answer.started and (progress is None or progress.step != "reading"):
        progress = Progress(variant=answer.started.variant, step="reading")
    step = progress.step if progress else "waiting"
    detail = progress.detail if progress else ""
    file = f"<small>{escaped(detail)}</small>" if step == "downloading" and detail else ""
    shown = f"<p>{both(f'answer.{step}', detail=detail)}{file}</p>{bar(progress.fraction if progress else None)}"
    return f'<div class="awaited" role="status">{shown}</div>'


def _foot(turn: Turn, variant: str) -> str:
    """Return the numbers of an answer that has ended, how it did, and what can be done with it; before, its time."""
    answer = turn.answers[variant]
    if not answer.settled:
        return f'<div class="foot"><div class="stats" data-parts>{as_part(_so_far(turn, answer))}</div></div>'
    reasons = {"length": "answer.cut", "cancelled": "answer.stopped"}
    ended = reasons.get(answer.end.reason) if isinstance(answer.end, Finished) else None
    ended = "answer.edited" if answer.edited else ended
    note = f'<span class="ended">{both(ended)}</span>' if ended else ""
    numbers = ""
    if isinstance(answer.end, Finished) and not answer.edited:
        numbers = "".join(_numbers(answer.end.stats, answer.started.seed if answer.started else None))
    if answer.before:
        note += f'<span class="ended">{both("answer.went_on")}</span>'
    if variant in turn.own:
        note += f'<span class="ended">{_apart(turn, variant)}</span>'
    return f'<div class="foot">{note}<span class="stats">{numbers}</span>{_tools(turn, variant)}</div>'


def _apart(turn: Turn, variant: str) -> str:
    """Return in what a variant was asked otherwise than the others, so that nobody takes that for the model."""
    mine, all_ = turn.own[variant], turn.asked
    said = [both("answer.own_system")] * (mine.system != all_.system)
    said += [escaped(f"{key} {value}") for key, value in mine.sampling if value != getattr(all_.sampling, key)]
    said += [both("controls.thinking")] * (mine.thinking != all_.thinking)
    return both("answer.own", what=Markup(" · ".join(said)))


def _so_far(turn: Turn, answer: Answer) -> str:
    """Return how long an answer has taken, and its speed and tokens where they are counted as they come."""
    now = time.time()
    seconds = max(0, int(now - turn.at))
    shown = f'<span class="runs" data-runs="{seconds}">{both("answer.runs", count=seconds)}</span>'
    if answer.made > answer.first and now > answer.since:
        speed = _speed((answer.made - answer.first) / (now - answer.since), counted=True)
        count = both("answer.tokens", count=f"{answer.made:,}")
        shown += f'<span class="stat-speed">{speed}</span><span class="stat-length">{count}</span>'
    return shown


def _tools(turn: Turn, variant: str) -> str:
    name, text = f"{turn.id} {variant}", turn.answers[variant].text
    again = _tool("ask_one", name, "chat.ask_one", "↻")
    edit = _tool("rewrite", name, "chat.edit_answer", "✎", edits=True)
    row = _tool("add_row", name, "chat.add_row", "＋")
    return (
        f'<span class="tools">{again}{edit}{row}{_copy(text)}</span>' if text else f'<span class="tools">{again}</span>'
    )


def _numbers(stats: Stats, seed: int | None) -> list[str]:
    """Return first token, speed, tokens, memory, dtype and seed: those that are known."""
    shown = {
        "first_token": f"{stats.first_token_s:.2f} s" if stats.first_token_s is not None else "",
        "speed": _speed(stats.tokens_per_s, stats.counted) if stats.tokens_per_s else "",
        "length": both(_unit(stats), count=f"{stats.tokens:,}") if stats.tokens else "",
        "memory": _memory(stats),
        "dtype": escaped(stats.dtype),
        "seed": both("answer.seeded", seed=seed) if seed is not None else "",
    }
    return [
        f'<span class="stat-{name}" title="{tooltip(f"answer.{name}")}">{text}</span>'
        for name, text in shown.items()
        if text
    ]


def _memory(stats: Stats) -> str:
    if not stats.memory_bytes:
        return ""
    shown = size(stats.memory_bytes)
    return f"{shown} {both('answer.shared')}" if stats.shared else shown


def _unit(stats: Stats) -> str:
    """Return the key of what is counted: tokens, or the parts that a server sent without saying how many those are."""
    return "answer.tokens" if stats.counted else "answer.parts"


def _speed(per_second: float, counted: bool) -> str:
    number = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"
    return f"{number} tok/s" if counted else both("answer.parts_per_s", count=number)


def _copy(text: str) -> str:
    label = tooltip("chat.copy")
    return f'<button class="copy" type="button" data-copy="{escaped(text)}" aria-label="{label}"></button>'
