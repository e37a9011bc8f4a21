"""A variant as an lm-eval model: the same encoding as lm-eval's `hf` model, each context computed once.

What makes scores comparable is done exactly as `lm_eval.models.huggingface.HFLM` does it: trailing spaces of a context
move into the continuation, both are encoded together and cut where the context alone ends, BOS comes where the
tokenizer puts it, what is too long is cut on the left. How the numbers are computed is the playground's business.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from playground.errors import VariantError
from playground.measure.probe import Probe
from playground.messages import Message
from playground.presets import Sampling
from playground.prompts import choose, render
from playground.protocol import Choices
from playground.system.atomic import explained
from playground.thinking.habits import Habits, habits

ENCODE_AT_ONCE = 2000
ROWS_AT_ONCE = 16
MAX_NEW_TOKENS = 256

Tell = Callable[[int, int], None]
Answer = tuple[float, bool]


class Cancelled(Exception):  # noqa: N818 - a signal, not an error
    """The run was cancelled between two pieces."""


@dataclass
class Saved:
    """Answers that are known already: a file of JSON lines that grows with every piece, so that kill -9 loses one."""

    path: Path | None
    known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8")
        for line in text.splitlines():
            try:
                key, value = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the run was killed
            self.known[key] = value
        if text and not text.endswith("\n"):
            self._append("\n")  # what comes next must not be glued to half a line

    def add(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Remember answers, on disk before anything else happens."""
        rows = list(rows)
        self.known |= dict(rows)
        self._append("".join(json.dumps(row) + "\n" for row in rows))

    def _append(self, text: str) -> None:
        if self.path is not None:
            with explained(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(text)


@dataclass
class Count:
    """What scoring cost: the tokens that the engine ran, and how few it could have been. And what became of thoughts.

    `closed`: choices scored behind a thought that the template opened, and that was closed at once, empty. `answers`:
    those generated; of `unfinished` ones nothing was left once the thought was taken off, as it never ended.
    """

    computed: int = 0
    least: int = 0
    closed: int = 0
    answers: int = 0
    unfinished: int = 0


class VariantLM(TemplateLM):  # type: ignore[misc]
    """One variant behind lm-eval's interface.

    `tell` hears how many requests of how many are done; `cancelled` is asked between pieces, and raises Cancelled.
    About `piece_tokens` go to the worker at once: between two pieces progress is told and saved.
    """

    def __init__(
        self,
        probe: Probe,
        prompt_format: str | None = None,
        saved: Saved | None = None,
        tell: Tell = lambda done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
        piece_tokens: int = 8192,
    ) -> None:
        super().__init__()
        self.probe = probe
        self.count = Count()
        self._words = probe.vocabulary()
        self._format = prompt_format
        self._thinks: Habits | None = None
        """What the template does about thoughts, once it is applied."""
        self._saved = saved or Saved(None)
        self._tell, self._cancelled = tell, cancelled
        self._piece_tokens = piece_tokens

    @property
    def eot_token_id(self) -> int:
        """Return the token that ends a text."""
        return self._words.eos_id

    @property
    def prefix_token_id(self) -> int:
        """Return what stands before an empty context: BOS, or EOS where there is none."""
        return self._words.prefix

    @property
    def max_length(self) -> int:
        """Return the context that the model was trained for, in tokens."""
        return self.probe.info.trained_context

    @property
    def tokenizer_name(self) -> str:
        """Return the name of cached requests: prompts of different templates must not mix."""
        return self.probe.variant.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """Return the token ids of one string; lm-eval's own code calls it, ours encodes many at once."""
        return self.probe.encode([string], add_special_tokens)[0]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template that `apply_chat_template` uses; lm-eval writes it into its results."""
        return choose(self.probe.variant, self._words.template, self._format).template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render turns by the variant's template; without a generation prompt, the last one stays open."""
        chosen = choose(self.probe.variant, self._words.template, self._format)
        self._thinks = habits(chosen.template)
        messages = [Message.model_validate(turn) for turn in chat_history]
        text = render(chosen, messages, self._words.tokens, add_generation_prompt)
        if add_generation_prompt:
            return text
        last = messages[-1].content.lstrip()
        begin = text.rindex(last.rstrip())
        kept = last if text.startswith(last, begin) else last.rstrip()  # some templates strip what was said
        return text[: begin + len(kept)]

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes into `config` beside its own arguments."""
        return {"model": self.probe.variant, "model_dtype": self.probe.info.dtype, "model_source": "madang"}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Return the log-probability in nats of each continuation, and whether it is the greedy one."""
        pairs = [self._thought_closed(*instance.args) for instance in requests]
        return self._answers([self._request(pair) for pair in self._encoded(pairs)])

    def _thought_closed(self, context: str, continuation: str) -> tuple[str, str]:
        """Close a thought that the template has opened in front of a choice, which would be scored inside it."""
        opened = self._thinks.opened_by(context) if self._thinks else None
        if opened is None:
            return context, continuation
        self.count.closed += 1
        return context + opened.closing, continuation

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **options: Any
    ) -> list[Answer]:
        """Score pairs that are token ids already."""
        return self._answers([self._request((context, rest)) for _, context, rest in requests])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of whole texts in nats, summed over windows of the model's length."""
        sums = []
        texts = self.probe.encode([instance.args[0] for instance in requests])
        for ids in texts:
            windows = utils.get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            pairs = [utils.make_disjoint_window(window) for window in windows]
            sums.append(sum(value for value, _ in self._answers([self._request(pair) for pair in pairs])))
        return sums

    def _encoded(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Encode context and continuation of every pair as HFLM cuts them; each different text is encoded once."""
        moved = [_spaces_moved(context, continuation) for context, continuation in pairs]
        texts = list(dict.fromkeys(text for context, rest in moved if context for text in (context, context + rest)))
        bare = list(dict.fromkeys(rest for context, rest in moved if not context))
        ids = dict(zip(texts, self._encode_all(texts, None), strict=True))
        own = dict(zip(bare, self._encode_all(bare, False), strict=True))
        encoded = []
        for context, rest in moved:
            if context:
                encoded.append((ids[context], ids[context + rest][len(ids[context]) :]))
            elif own[rest][:1] == [self.prefix_token_id]:
                encoded.append((own[rest][:1], own[rest][1:]))
            else:
                encoded.append(([self.prefix_token_id], own[rest]))
        return encoded

    def _encode_all(self, texts: list[str], add_special: bool | None) -> list[list[int]]:
        parts = (texts[i : i + ENCODE_AT_ONCE] for i in range(0, len(texts), ENCODE_AT_ONCE))
        return [ids for part in parts for ids in self.probe.encode(part, add_special)]

    def _request(self, pair: tuple[list[int], list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Cut a pair on the left to what the model holds, as HFLM does."""
        context, rest = pair
        if not rest:
            raise VariantError(
                f"{self.probe.variant} encodes a choice to no token of its own after its context.",
                "Its tokenizer joins the choice with the context: this task cannot be scored with it.",
            )
        kept = [*context, *rest][-(self.max_length + 1) :]
        return tuple(kept[: -len(rest)]), tuple(rest)

    def _answers(self, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Answer]:
        """Return answers in the requests' order; those that are saved are not computed again."""
        keys = [_key(context, rest) for context, rest in requests]
        todo: dict[tuple[int, ...], dict[tuple[int, ...], str]] = {}
        for key, (context, rest) in zip(keys, requests, strict=True):
            if key not in self._saved.known:
                todo.setdefault(context, {})[rest] = key
        if todo:
            self.probe.grow(max(len(context) + len(rest) for context, rests in todo.items() for rest in rests))
        left = sum(len(rests) for rests in todo.values())
        for piece in _pieces(todo, self._piece_tokens):
            self._check(len(requests) - left, len(requests))
            self._score(piece, todo)
            left -= sum(len(question.continuations) for question in piece)
        self._tell(len(requests), len(requests))
        return [(float(value), bool(greedy)) for value, greedy in (self._saved.known[key] for key in keys)]

    def _check(self, done: int, total: int) -> None:
        self._tell(done, total)
        if self._cancelled():
            raise Cancelled

    def _score(self, piece: list[Choices], todo: dict[tuple[int, ...], dict[tuple[int, ...], str]]) -> None:
        scored = self.probe.score(piece)
        self.count.computed += scored.computed
        self.count.least += sum(question.size for question in piece)
        rows = []
        for question, values, greedy in zip(piece, scored.logprobs, scored.greedy, strict=True):
            for rest, value, best in zip(question.continuations, values, greedy, strict=True):
                if not math.isfinite(value):
                    raise VariantError(
                        f"{self.probe.variant} gave a log-probability of {value}.",
                        'Its weights or its dtype are broken: try dtype = "fp32", or export the file anew.',
                    )
                rows.append((todo[question.context][rest], [value, best]))
        self._saved.add(rows)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return completions up to a stop string: greedy, or sampled where the task says so."""
        keys = [_key(*instance.args) for instance in requests]
        todo = [number for number, key in enumerate(keys) if key not in self._saved.known]
        for begin in range(0, len(todo), ROWS_AT_ONCE):
            self._check(len(requests) - len(todo) + begin, len(requests))
            for number, made in self._generated(todo[begin : begin + ROWS_AT_ONCE], requests):
                self._saved.add([(keys[number], made)])
        known = [_generated(self._saved.known[key]) for key in keys]
        self.count.answers += len(known)
        self.count.unfinished += sum(unfinished for _, unfinished in known)
        return [text for text, _ in known]

    def _generated(self, numbers: list[int], requests: list[Instance]) -> Iterator[tuple[int, tuple[str, bool]]]:
        """Yield completions of some requests, and whether they never left their thought, with their numbers.

        Those with equal settings decode together. Thoughts are taken off where the template was applied.
        """
        groups: dict[str, list[int]] = {}
        for number in numbers:
            groups.setdefault(json.dumps(requests[number].args[1], sort_keys=True, default=str), []).append(number)
        for group in groups.values():
            options = normalize_gen_kwargs(dict(requests[group[0]].args[1]), MAX_NEW_TOKENS)
            until = handle_stop_sequences(options.pop("until", None), eos=self._words.eos)
            sampling = _sampling(options, until)
            texts = self._cut([requests[number].args[0] for number in group], sampling.max_new_tokens)
            for index, finished in self.probe.complete(texts, sampling, apart=self._thinks is not None):
                said = postprocess_generated_text(generation=finished.text, stop=until, think_end_token=None)
                yield group[index], (said, bool(finished.reasoning) and not finished.text.strip())

    def _cut(self, texts: list[str], new_tokens: int) -> list[str]:
        """Make room for prompts and answers; prompts that the model cannot hold are an error."""
        self.probe.grow(max(len(ids) for ids in self.probe.encode(texts)) + new_tokens)
        return texts


def _generated(saved: Any) -> tuple[str, bool]:
    """Return a completion and whether it never left its thought, as they were saved; once the text stood alone."""
    text, unfinished = (saved, False) if isinstance(saved, str) else saved
    return str(text), bool(unfinished)


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Move trailing spaces of the context to the continuation: tokenizers join a space with the word after it."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _key(*parts: Any) -> str:
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _pieces(todo: dict[tuple[int, ...], dict[tuple[int, ...], str]], piece_tokens: int) -> Iterator[list[Choices]]:
    """Yield questions longest first, some thousand tokens at once: the time left is never underestimated."""
    questions = [Choices(context=context, continuations=tuple(rests)) for context, rests in todo.items()]
    questions.sort(key=lambda question: -question.size)
    piece: list[Choices] = []
    tokens = 0
    for question in questions:
        piece.append(question)
        tokens += question.size
        if tokens >= piece_tokens:
            yield piece
            piece, tokens = [], 0
    if piece:
        yield piece


def _sampling(options: dict[str, Any], until: list[str]) -> Sampling:
    """Return lm-eval's generation arguments as Sampling; what they do not name is greedy and without penalty."""
    sampled = bool(options.get("do_sample", False))
    return Sampling(
        temperature=float(options.get("temperature") or 1.0) if sampled else 0.0,
        top_p=float(options.get("top_p") or 1.0),
        top_k=int(options.get("top_k") or 0),
        repetition_penalty=float(options.get("repetition_penalty") or 1.0),
        max_new_tokens=int(options.get("max_gen_toks") or MAX_NEW_TOKENS),
        seed=0,
        stop=tuple(until),
    )
