"""The API is asked all that its own description allows, and much that it does not: no 500, and OpenAI's errors."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from playground.compare import Playground
from playground.server.app import create
from playground.server.wire.errors import ErrorBody
from playground.settings import Settings
from tests.playground.server.small_app import served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODELS = ("base", "base:one", "other", "nobody")
"""What made-up names of models become: made up, every request would end at a 404."""
REFUSED = "logit_bias response_format modalities tools tool_choice functions function_call audio prediction"
REFUSED += " web_search_options reasoning_effort verbosity stream_options top_logprobs best_of suffix preset"
CATALOGUE = """
[[variant]]
name = "base"
kind = "base"
source = "fake:base"
context = 4096
[[variant]]
name = "one"
kind = "adapter"
base = "base"
source = "fake:one"
[[variant]]
name = "other"
kind = "gguf"
source = "fake:other"
"""
HEALTHY = list(HealthCheck)
FEW, MANY = 60, 500
"""Examples of each operation and mode."""


@dataclass
class Api:
    """The API of fakes behind a real server, and as it describes itself."""

    client: httpx.Client
    schema: Any
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def operations(self) -> dict[str, Any]:
        """By method and path."""
        return {found.label: found for found in (result.ok() for result in self.schema.get_all_operations())}

    def ask(self, case: schemathesis.Case[Any]) -> None:
        """Send it, and look at what comes back."""
        answer = case.call(timeout=60)
        self.seen[f"{case.operation.label} {answer.status_code}"] += 1
        look(answer.status_code, answer.headers.get("content-type", [""])[0], answer.content)
        case.validate_response(answer, checks=CHECKS)


def look(status: int, kind: str, content: bytes) -> None:
    """OpenAI's error object wherever there is an error, in a stream too; a stream's every event is JSON."""
    assert status < 500
    if status >= 400:
        ErrorBody.model_validate_json(content)
    elif kind.startswith("text/event-stream"):
        *events, last = [line.removeprefix("data: ") for line in content.decode().split("\n") if line]
        errors = [json.loads(event)["error"] for event in (*events, last) if '"error"' in event]
        assert last == "[DONE]" or errors
        assert not [error for error in errors if error["type"] == "server_error"]
        assert all(json.loads(event) for event in events)


def map_body(context: Any, body: Any) -> Any:
    """A known model for most bodies; for every second one nothing that Madang only knows to refuse."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return body
    chance = crc32(json.dumps(body, sort_keys=True).encode())
    named = body | {"model": MODELS[chance % 4]}
    return named if chance & 4 else servable(named, stream=bool(chance & 8))


def servable(body: dict[str, Any], stream: bool) -> dict[str, Any]:
    """What of a body can be answered; wrong types stay wrong."""
    kept = {name: value for name, value in body.items() if name not in REFUSED.split()}
    if isinstance(kept.get("n"), int):
        kept["n"] %= 5
    if "stream" in kept or "prompt" in kept or "messages" in kept:
        kept["stream"] = stream
    if isinstance(kept.get("messages"), list):
        kept["messages"] = [
            {"role": "user", "content": turn.get("content") or "?"} if isinstance(turn, dict) else turn
            for turn in kept["messages"]
        ]
        for turn in kept["messages"]:
            if isinstance(turn, dict) and isinstance(turn["content"], list):
                turn["content"] = [{"type": "text", "text": f"{part}"} for part in turn["content"]]
    return kept


def map_path_parameters(context: Any, parameters: Any) -> Any:
    """Now and then a model that is there."""
    if not parameters or "model" not in parameters:
        return parameters
    name = str(parameters["model"])
    return parameters | {"model": MODELS[len(name) % 2]} if crc32(name.encode()) % 2 else parameters


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    playground = Playground(Settings(data=folder))
    with served(create(playground)) as url, httpx.Client(base_url=url) as client:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        schema.config.max_stream_events = 1_000_000  # left alone, it hangs up early
        schema.hook(map_body)
        schema.hook(map_path_parameters)
        yield Api(client, schema)
    playground.close()


def fuzz(api: Api, label: str, mode: schemathesis.GenerationMode, examples: int) -> None:
    """The same cases each time."""

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=HEALTHY)
    @given(case=api.operations[label].as_strategy(generation_mode=mode))
    def asked(case: schemathesis.Case[Any]) -> None:
        api.ask(case)

    asked()


WITH_BODY = ["POST /v1/chat/completions", "POST /v1/completions", "POST /tokenize", "POST /detokenize"]
BARE = ["GET /v1/models", "GET /v1/models/{model}", "GET /health"]


def test_every_operation_is_fuzzed(api: Api) -> None:
    assert set(api.operations) == {*WITH_BODY, *BARE}


@pytest.mark.parametrize("label", [*WITH_BODY, *BARE])
def test_what_the_description_allows_breaks_nothing(api: Api, label: str) -> None:
    fuzz(api, label, schemathesis.GenerationMode.POSITIVE, FEW)
    assert api.seen[f"{label} 200"]


@pytest.mark.parametrize("label", WITH_BODY)
def test_what_the_description_forbids_breaks_nothing(api: Api, label: str) -> None:
    fuzz(api, label, schemathesis.GenerationMode.NEGATIVE, FEW)
    assert api.seen[f"{label} 400"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("label", WITH_BODY)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_many_more_break_nothing(api: Api, label: str, mode: schemathesis.GenerationMode) -> None:
    fuzz(api, label, mode, MANY)


@settings(max_examples=FEW, derandomize=True, database=None, deadline=None, suppress_health_check=HEALTHY)
@given(
    path=st.sampled_from([label.split()[1] for label in WITH_BODY]),
    body=st.binary(max_size=200)
    | st.text(max_size=50).map(lambda text: json.dumps({"model": "base", "prompt": text}).encode("utf-16")),
    kind=st.sampled_from(
        ["application/json", "text/plain", "multipart/form-data", "application/json; charset=utf-16", ""]
    ),
)
def test_bodies_that_are_no_json_break_nothing(api: Api, path: str, body: bytes, kind: str) -> None:
    answer = api.client.post(path, content=body, headers={"Content-Type": kind})
    look(answer.status_code, answer.headers["content-type"], answer.content)
