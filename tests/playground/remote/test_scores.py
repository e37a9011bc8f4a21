"""Choices scored over an OpenAI-compatible API, in each of the ways that servers allow."""

import asyncio
from typing import Any

import pytest

from playground.errors import VariantError
from playground.protocol import Address, Choices, ModelSpec, Scored
from playground.remote.openai import Server
from playground.remote.scores import Scorer
from tests.planted import Handler, Planted, status

QUESTIONS = [
    Choices(context=(1, 2), continuations=((3, 4), (5,))),
    Choices(context=(9,), continuations=((7,),)),
]


def scored(planted: Planted, questions: list[Choices] = QUESTIONS) -> Scored:
    async def run() -> Scored:
        server = Server(ModelSpec(engine="openai", name="far", path="", remote=Address(url=planted.url)))
        try:
            await server.greet()
            return await Scorer(server).score(questions)
        finally:
            await server.close()

    return asyncio.run(run())


def tokenizes(handler: Handler, body: dict[str, Any]) -> None:
    handler.json({"tokens": [ord(letter) for letter in body["prompt"]], "count": 1})


def echoes(extra: int = 1, top: float = -0.25, alter: Any = None) -> Any:
    """Answers prompts of ids in reverse order, each token as likely as e^-(token/10), with `extra` generated ones."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        choices = []
        for index, prompt in reversed(list(enumerate(body["prompt"]))):
            ids = [*prompt, *[8] * extra]
            values: list[float | None] = [None, *(-token / 10 for token in ids[1:])]
            tops = [None, *({"x": value, "y": top} for value in values[1:])]
            held = {"tokens": [str(i) for i in ids], "token_logprobs": values, "top_logprobs": tops, "text_offset": []}
            choices.append({"index": index, "text": "", "logprobs": alter(held) if alter else held})
        handler.json({"choices": choices})

    return reply


def test_choices_are_scored_from_an_echo(planted: Planted) -> None:
    planted.by_path = {"/tokenize": tokenizes, "/v1/completions": echoes(top=-0.5)}
    found = scored(planted)
    assert found.logprobs == [[pytest.approx(-0.7), pytest.approx(-0.5)], [pytest.approx(-0.7)]]
    assert found.greedy == [[True, True], [False]]
    [body] = planted.bodies("/v1/completions")
    assert body["prompt"] == [[1, 2, 3, 4], [1, 2, 5], [9, 7]]
    assert (body["echo"], body["logprobs"], body["max_tokens"]) == (True, 1, 1)


def test_an_echo_without_a_generated_token_will_do(planted: Planted) -> None:
    planted.by_path = {"/tokenize": tokenizes, "/v1/completions": echoes(extra=0)}
    assert scored(planted).logprobs[0] == [pytest.approx(-0.7), pytest.approx(-0.5)]


@pytest.mark.parametrize(
    "alter",
    [
        lambda held: None,
        lambda held: held | {"token_logprobs": [None] * len(held["tokens"])},
        lambda held: held | {"token_logprobs": held["token_logprobs"][-1:]},
        lambda held: held | {"top_logprobs": None},
        lambda held: {"content": [{"token": "a", "logprob": -1.0}]},
    ],
)
def test_a_server_that_echoes_nothing_is_not_scored(planted: Planted, alter: Any) -> None:
    planted.by_path = {"/tokenize": tokenizes, "/v1/completions": echoes(alter=alter)}
    with pytest.raises(VariantError, match="cannot be scored") as caught:
        scored(planted)
    assert "vLLM" in caught.value.hint


def by_letter(handler: Handler, body: dict[str, Any]) -> None:
    """Echoes texts in tokens of two letters, each as likely as e^-1, with one token after them."""
    choices = []
    for index, text in enumerate(body["prompt"]):
        tokens = [text[at : at + 2] for at in range(0, len(text), 2)] + ["!!"]
        offsets = [sum(map(len, tokens[:number])) for number in range(len(tokens))]
        tops = [None, *({"x": -1.0} for _ in tokens[1:])]
        held = {"tokens": tokens, "text_offset": offsets, "top_logprobs": tops}
        choices.append({"index": index, "logprobs": held | {"token_logprobs": [None, *[-1.0] * (len(tokens) - 1)]}})
    handler.json({"choices": choices})


def letters(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_without_tokens_texts_are_aligned_by_their_offsets(planted: Planted) -> None:
    planted.by_path = {"/v1/completions": by_letter}
    found = scored(planted, [Choices(context=letters("한국의 "), continuations=(letters("수도"), letters("서울시는")))])
    assert found.logprobs == [[-1.0, -2.0]]
    assert planted.bodies("/v1/completions")[0]["prompt"] == ["한국의 수도", "한국의 서울시는"]
    with pytest.raises(VariantError, match="in one token"):
        scored(planted, [Choices(context=letters("abc"), continuations=(letters("def"),))])


def forces(handler: Handler, body: dict[str, Any]) -> None:
    """llama-server: gives the token that a bias makes it give, and says what it held of it before."""
    [[token, _]] = body["logit_bias"]
    top = {"id": 5, "token": "x", "logprob": -0.1, "bytes": [1]}
    held = {"id": token, "token": "t", "logprob": -token / 10, "bytes": [1], "top_logprobs": [top]}
    handler.json({"choices": [{"index": 0, "text": "t", "logprobs": {"content": [held]}}]})


def spelt(tokens: list[str], counted: bool = True) -> Any:
    """Echoes these tokens, the n-th of them as likely as e^-n; `counted`: the first one's letters stand in offsets."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            own = [token for token in tokens if token in prompt or token not in "abcdefghijkl"]
            offsets = [sum(map(len, own[:number])) for number in range(len(own))]
            if not counted:
                offsets = [0, *(offset - len(own[0]) for offset in offsets[1:])]
            values: list[float | None] = [None, *(-float(number) for number in range(1, len(own)))]
            held = {"tokens": own, "text_offset": offsets, "token_logprobs": values}
            held["top_logprobs"] = [None, *({"?": 0.0} for _ in own[1:])]
            choices.append({"index": index, "text": "", "logprobs": held})
        handler.json({"choices": choices})

    return reply


CHOICES = [Choices(context=letters("abcdef"), continuations=(letters("ghi"), letters("ghijkl")))]


@pytest.mark.parametrize(
    ("bos", "counted", "found"),
    [((), True, [-2.0, -5.0]), (("<s>",), True, [-3.0, -7.0]), (("<|bos|>",), True, [-3.0, -7.0])]
    + [(("<s>",), False, [-3.0, -7.0])],
)
def test_a_token_in_front_of_the_text_moves_nothing(
    planted: Planted, bos: tuple[str, ...], counted: bool, found: list[float]
) -> None:
    planted.by_path = {"/v1/completions": spelt([*bos, "abc", "def", "ghi", "jkl"], counted)}
    assert scored(planted, CHOICES).logprobs == [found]


def test_tokens_that_spell_another_text_are_not_scored(planted: Planted) -> None:
    planted.by_path = {"/v1/completions": spelt(["<s>", "ABC", "def", "ghi", "jkl"])}
    with pytest.raises(VariantError, match="do not spell the prompt"):
        scored(planted, CHOICES)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_proxy_may_keep_tokenize_to_itself(planted: Planted, code: int) -> None:
    planted.by_path = {"/tokenize": status(code), "/v1/completions": spelt(["abc", "def", "ghi", "jkl"])}
    assert scored(planted, CHOICES).logprobs == [[-2.0, -5.0]]


def test_a_server_that_takes_no_lists_of_prompts_is_not_scored(planted: Planted) -> None:
    planted.by_path = {"/v1/completions": status(400, "json: cannot unmarshal array into Go struct field")}
    with pytest.raises(VariantError, match="gives no log-probabilities of a prompt"):
        scored(planted, CHOICES)
    planted.by_path = {"/v1/completions": status(400, "This model's maximum context length is 8 tokens")}
    with pytest.raises(VariantError, match="maximum context length"):
        scored(planted, CHOICES)


def test_a_llama_server_is_scored_token_by_token(planted: Planted) -> None:
    planted.pages["/v1/models"] = {"data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx": 64}}]}
    planted.by_path = {"/v1/completions": forces}
    questions = [Choices(context=(1, 2), continuations=((3, 4), (3, 6), (5,)))]
    found = scored(planted, questions)
    assert found.logprobs == [[pytest.approx(-0.7), pytest.approx(-0.9), pytest.approx(-0.5)]]
    assert found.greedy == [[False, False, True]]
    prompts = [body["prompt"] for body in planted.bodies("/v1/completions")]
    assert prompts == [[1, 2], [1, 2, 3], [1, 2, 3], [1, 2]]  # what choices share is asked once


def halves(handler: Handler, body: dict[str, Any]) -> None:
    """llama-server where token 7 ends within a character: it then says nothing, but knows 7 among all."""
    [[token, _]] = body["logit_bias"]
    if token == 7:
        handler.json({"choices": [{"index": 0, "text": "", "logprobs": None}]})
        return
    known = [
        {"id": 100 + i, "token": "x", "logprob": -0.1 * i, "bytes": [1]} for i in range(min(body["logprobs"], 6000))
    ]
    known += [{"id": 7, "token": "?", "logprob": -9.5, "bytes": [236]}] if body["logprobs"] > 200 else []
    held = {"id": token, "token": ",", "logprob": -3.0, "bytes": [44], "top_logprobs": known}
    handler.json({"choices": [{"index": 0, "text": ",", "logprobs": {"content": [held]}}]})


def test_a_token_that_ends_within_a_character_is_looked_for(planted: Planted) -> None:
    planted.pages["/v1/models"] = {"data": [{"id": "m", "owned_by": "llamacpp"}]}
    planted.by_path = {
        "/v1/completions": halves,
        "/tokenize": lambda handler, body: handler.json({"tokens": [44]}),
    }
    found = scored(
        planted, [Choices(context=(1,), continuations=((7,),)), Choices(context=(2,), continuations=((7,),))]
    )
    assert found.logprobs == [[-9.5], [-9.5]]
    assert found.greedy == [[False], [False]]
