"""Hand-written rows in two languages, and small ways to make files and examples of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.data.examples import Example, Table, Turn
from training.data.formats import Data, convert

KOALPACA = [
    {"instruction": "양파는 어떤 식물 부위인가요?", "output": "양파는 땅속에서 자라는 비늘줄기입니다."},
    {"instruction": "Name the capital of Korea.", "output": "Seoul is the capital of South Korea."},
    {"instruction": "한글을 만든 사람은 누구인가요?", "output": "세종대왕이 1443년에 만들었습니다."},
]
ALPACA = [
    {"instruction": "다음 문장을 영어로 옮기세요.", "input": "마당에 감나무가 있다.", "output": "There is a tree."},
    {"instruction": "Tell a joke.", "input": "", "output": "A tree walks into a yard."},
]
SHAREGPT = [
    {
        "conversations": [
            {"from": "system", "value": "짧게 답한다."},
            {"from": "human", "value": "안녕?"},
            {"from": "gpt", "value": "안녕하세요!"},
            {"from": "human", "value": "How are you?"},
            {"from": "gpt", "value": "Fine, thanks."},
        ]
    },
    {"conversations": [{"from": "user", "value": "둘 더하기 둘은?"}, {"from": "assistant", "value": "넷입니다."}]},
]
MESSAGES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "이 글을 "}, {"type": "text", "text": "줄여 줘."}]},
            {"role": "assistant", "content": "줄였습니다."},
        ]
    },
]
TEXT = [{"text": "마당은 사람들이 모이는 곳이다."}, {"text": "A yard is where people meet."}]
PREFERENCE = [
    {"prompt": "하늘은 왜 파란가요?", "chosen": "빛이 산란하기 때문입니다.", "rejected": "몰라요."},
    {"prompt": "Is water wet?", "chosen": "It wets other things.", "rejected": "No idea at all."},
]
KTO: list[dict[str, Any]] = [
    {"prompt": "하늘은 왜 파란가요?", "completion": "빛이 산란하기 때문입니다.", "label": True},
    {"prompt": "Is water wet?", "completion": "No idea at all.", "label": False},
    {
        "prompt": [{"role": "system", "content": "짧게."}, {"role": "user", "content": "안녕?"}],
        "completion": [{"role": "assistant", "content": "안녕하세요!"}],
        "label": True,
    },
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}], "label": False},
]
LIST_PREFERENCE: list[dict[str, Any]] = [
    {
        "prompt": "하늘은 왜 파란가요?",
        "prompt_id": "a1",
        "chosen": [
            {"role": "user", "content": "하늘은 왜 파란가요?"},
            {"role": "assistant", "content": "빛이 산란하기 때문입니다."},
        ],
        "rejected": [
            {"role": "user", "content": "하늘은 왜 파란가요?"},
            {"role": "assistant", "content": "몰라요."},
        ],
        "messages": [
            {"role": "user", "content": "하늘은 왜 파란가요?"},
            {"role": "assistant", "content": "빛이 산란하기 때문입니다."},
        ],
        "score_chosen": 8.0,
    }
]


def jsonl(path: Path, rows: Iterable[Any], encoding: str = "utf-8") -> Path:
    """The rows as JSON lines; a str is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    return path


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows as if a file had held them, numbered from 1."""
    return Table(list(rows), list(range(1, len(rows) + 1)), "rows.jsonl")


def data(rows: Sequence[dict[str, Any]], form: str = "auto") -> Data:
    """Rows of any format as Data."""
    return convert(table(rows), form)


def talk(*said: str, row: int = 1) -> Example:
    """A conversation whose sides take turns; said[0] is the user's."""
    turns = (Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(said))
    return Example(row, "conversation", tuple(turns))


def talks(*pairs: tuple[str, ...]) -> Data:
    """Conversations numbered from 1."""
    return Data([talk(*pair, row=row) for row, pair in enumerate(pairs, start=1)], "messages", "rows.jsonl")
