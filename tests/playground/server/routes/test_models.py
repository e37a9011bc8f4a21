"""/v1/models, /health, /tokenize and /detokenize."""

import threading
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from playground.compare import Playground
from playground.server.app import create
from playground.server.routes import models
from playground.settings import Settings
from tests.playground.server.conftest import HeardPool, serving, until

IDS = [
    "smollm2",
    "smollm2:demo",
    "smollm2:demo:Q4_K_M",
    "base",
    "base:one",
    "base:two",
    "other",
    "thinker",
    "opener",
    "broken",
    "aborts",
    "slow",
]


def test_every_variant_is_a_model(client: openai.OpenAI) -> None:
    models = list(client.models.list())
    assert [model.id for model in models] == [*IDS, "huge"]
    assert {(model.object, model.owned_by) for model in models} == {("model", "madang")}
    assert all(model.created > 1_700_000_000 for model in models)


@pytest.mark.parametrize(("asked", "found"), [("base:one", "base:one"), ("one", "base:one"), ("base:two", "base:two")])
def test_a_model_answers_to_its_id_and_to_its_catalogue_name(client: openai.OpenAI, asked: str, found: str) -> None:
    assert client.models.retrieve(asked).id == found
    answer = client.chat.completions.create(model=asked, messages=[{"role": "user", "content": "x"}])
    assert answer.model == found


def test_an_unknown_model_is_a_404_with_near_matches(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean base:one or base:two") as caught:
        client.models.retrieve("base:onw")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="GET /v1/models lists them all"):
        client.models.retrieve("zzzzzzzzzz")


def test_a_change_of_the_catalogue_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "variants.toml"
    file.write_text('[[variant]]\nname = "a"\nkind = "base"\nsource = "fake:a"\n', encoding="utf-8")
    playground = Playground(Settings(data=tmp_path))
    with serving(create(playground)) as address, httpx.Client(base_url=address) as http:
        assert http.get("/v1/models/a").status_code == 200
        file.write_text('[[variant]]\nname = "bc"\nkind = "base"\nsource = "fake:a"\n', encoding="utf-8")
        assert http.get("/v1/models/a").status_code == 404
        assert http.get("/v1/models/bc").status_code == 200
        file.write_text("[[variant]]\nname = 7\n", encoding="utf-8")
        answer = http.get("/v1/models")
        assert answer.status_code == 500
        assert "has faults" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"


def test_what_is_not_there_and_what_is_not_allowed(http: httpx.Client) -> None:
    for method, path, status, code in (
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("GET", "/nothing", 404, "unknown_url"),
        ("PUT", "/v1/completions", 405, "method_not_supported"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("GET", "/tokenize", 405, "method_not_supported"),
    ):
        answer = http.request(method, path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (status, code, "invalid_request_error"), path


def test_tokens_as_llama_cpps_server_gives_them(http: httpx.Client) -> None:
    body = {"model": "other", "content": "a안"}
    ids = [97, *"안".encode()]
    assert http.post("/tokenize", json=body | {"add_special": True}).json() == {"tokens": ids}
    pieces = http.post("/tokenize", json=body | {"with_pieces": True}).json()["tokens"]
    assert pieces[:2] == [{"id": 97, "piece": "a"}, {"id": 0xEC, "piece": [0xEC]}]
    assert http.post("/detokenize", json={"model": "other", "tokens": ids}).json() == {"content": "a안"}
    assert http.post("/detokenize", json={"model": "other", "tokens": []}).json() == {"content": ""}
    answer = http.post("/detokenize", json={"model": "other", "tokens": [99999]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_prompt")


@pytest.mark.parametrize(
    ("path", "field", "most"), [("/tokenize", "content", "x" * 48_000), ("/detokenize", "tokens", [97] * 3000)]
)
def test_what_is_longer_than_a_prompt_is_not_tokenized(http: httpx.Client, path: str, field: str, most: Any) -> None:
    assert http.post(path, json={"model": "other", field: most}).status_code == 200
    answer = http.post(path, json={"model": "other", field: most + most[:1]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, field, "context_length_exceeded")
    assert f"{len(most) + 1}" in error["message"]
    answer = http.post(path, json={"model": "x" * 1001, field: most[:1]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_tokens_are_written_beside_the_event_loop(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    class Noted(JSONResponse):
        def render(self, content: Any) -> bytes:
            threads.append(threading.current_thread().name)
            return super().render(content)

    monkeypatch.setattr(models, "JSONResponse", Noted)
    for body in ({"content": "a안", "with_pieces": True}, {"content": "a"}):
        assert http.post("/tokenize", json={"model": "other"} | body).status_code == 200
    assert http.post("/detokenize", json={"model": "other", "tokens": [97]}).status_code == 200
    assert [name.startswith("api") for name in threads] == [True] * 3


def test_without_a_name_the_only_model_is_meant(api_settings: Settings) -> None:
    pool = HeardPool(api_settings)
    with serving(create(Playground(api_settings, pool=pool))) as address, httpx.Client(base_url=address) as http:
        answer = http.post("/tokenize", json={"content": "a"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
        http.post("/v1/completions", json={"model": "other", "prompt": "a"})
        assert http.post("/tokenize", json={"content": "a"}).json() == {"tokens": [97]}
        http.post("/v1/completions", json={"model": "base", "prompt": "a"})
        assert http.post("/tokenize", json={"content": "a"}).status_code == 400
    pool.close()


def test_health_is_503_while_the_first_model_loads(tmp_path: Path) -> None:
    rows = "".join(f"[[variant]]\nname = '{n}'\nkind = 'base'\nsource = 'fake:{n}'\n" for n in ("sleepy", "quick"))
    (tmp_path / "variants.toml").write_text(rows, encoding="utf-8")
    playground = Playground(Settings(data=tmp_path))
    with serving(create(playground)) as address, httpx.Client(base_url=address, timeout=30) as http:
        assert http.get("/health").json() == {"status": "ok"}

        def ask() -> None:
            body = {"model": "sleepy", "prompt": "a"}
            answers.append(httpx.post(f"{address}/v1/completions", json=body, timeout=60))

        answers: list[httpx.Response] = []
        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: http.get("/health").status_code == 503)
        loading = http.get("/health")
        assert loading.json()["error"]["message"] == "Loading model"
        assert loading.headers["retry-after"] == "1"
        assert http.post("/v1/completions", json={"model": "quick", "prompt": "a"}).status_code == 200
        assert http.get("/health").status_code == 200
        playground.close()
        asking.join()
        assert answers[0].status_code == 503


def test_the_description_names_every_route_and_its_errors(api: FastAPI) -> None:
    paths = api.openapi()["paths"]
    assert {"/v1/models", "/v1/models/{model}", "/v1/chat/completions", "/v1/completions", "/health"} <= set(paths)
    answers = paths["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429", "500", "503"} <= set(answers)
