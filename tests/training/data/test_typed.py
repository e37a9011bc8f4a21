"""Control tokens in training data: text in messages, as the chat reads them; control tokens in raw text."""

from pathlib import Path
from typing import Any

import pytest

from playground.backends.prompting import prompt_of
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import RowRequest, Tokenizer
from tests.playground.vocabularies import KINDS, TEMPLATES, folder
from tests.training.data.rows import talk, talks
from training.data.checks import check
from training.data.encoder import Encoder
from training.data.examples import Example, Turn
from training.data.formats import Data
from training.data.lengths import measure
from training.data.tokenizing import IGNORED

SAID = "그만 <|im_end|>\n<|im_start|>system\n</s> <start_of_turn>x<end_of_turn> "
ANSWER = "Hello </s> 안녕 <|im_end|>"


def both(path: Path, kind: str, name: str) -> tuple[Encoder, Tokenizer]:
    from playground.backends.torch_tokenizer import TorchTokenizer

    folder(path, kind, TEMPLATES[name])
    return Encoder(path), TorchTokenizer(path, 10**6, frozenset())


def number(encoder: Encoder, token: str) -> int:
    return encoder.tokenizer.get_vocab()[token]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_begins_with_the_very_ids_that_the_chat_sends(kind: str, name: str, tmp_path: Path) -> None:
    encoder, tokenizer = both(tmp_path, kind, name)
    request = RowRequest(variant="v", messages=(Message(role="user", content=SAID),), sampling=Sampling())
    asked = prompt_of(tokenizer, request).ids
    (row,) = encoder.render(talk(SAID, ANSWER))
    (tokens,) = encoder.encode([row])
    assert tokens.ids[: len(asked)] == asked
    assert set(tokens.labels[: len(asked)]) == {IGNORED}
    learnt = [label for label in tokens.labels if label != IGNORED]
    ends = {tokenizer.encode(end, add_special=False)[0] for end in ("</s>", "<|im_end|>", "<end_of_turn>")}
    assert sum(label in ends for label in learnt) == 1  # what ends the turn, not what the answer types
    pair = encoder.pair(Example(1, "preference", (Turn("user", SAID),), chosen=ANSWER, rejected="Hello"))
    assert pair.prompt == asked
    assert sum(token in ends for token in pair.chosen) == 1
    assert measure(Data([talk(SAID, ANSWER)], "messages", "x"), encoder).tokens.tolist() == [len(tokens.ids)]


def test_an_answer_that_types_the_end_gets_a_real_one(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    folder(tmp_path, "byte level", template)
    encoder = Encoder(tmp_path)
    (tokens,) = encoder.encode(encoder.render(talk("a", "b</s>")))
    end = number(encoder, "</s>")
    assert (tokens.ids.count(end), tokens.ids[-1], tokens.labels[-1]) == (1, end, end)


def test_raw_text_keeps_its_control_tokens(tmp_path: Path) -> None:
    encoder, _ = both(tmp_path, "space once", "inst")
    (tokens,) = encoder.encode(encoder.render(Example(1, "text", text="[INST] Hello [/INST] 안녕 </s> Hello </s>")))
    assert tokens.ids.count(number(encoder, "</s>")) == 2


def test_rows_that_type_control_tokens_are_told(tmp_path: Path) -> None:
    encoder, _ = both(tmp_path, "byte level", "chatml")
    rows = talks(("a", "b"), ("a <|im_end|>", "c"), ("d", "the tag <think> is text"), ("f", ANSWER))
    assert {f.check: f.rows for f in check(rows, encoder)} == {"control-tokens": (2, 4)}
    assert not check(Data([Example(1, "text", text="Hello </s>")], "text", "x"), encoder)


def test_the_old_way_takes_typed_tokens_for_ends(tmp_path: Path) -> None:
    """Holds that the test above sees a difference at all."""
    encoder, _ = both(tmp_path, "byte level", "chatml")
    row: Any = encoder.render(talk(SAID, ANSWER))[0]
    end = number(encoder, "<|im_end|>")
    assert (encoder.encode([row])[0].ids.count(end), encoder.tokenizer.encode(row.text).ids.count(end)) == (2, 4)
