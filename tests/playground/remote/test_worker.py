"""Remote variants beside the others: answered, cancelled, dead, and scored as the same file on this machine is."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from playground.catalogue import variants
from playground.catalogue.variants import Base, Catalogue, Gguf, Remote, Variant
from playground.compare import Playground, Question
from playground.errors import ConfigError, MadangError, VariantError, WorkerError
from playground.events import Delta, Event, Failed, Finished
from playground.measure.probe import Probe, probing
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Choices, RowRequest
from playground.remote import reach
from playground.remote.worker import RemoteWorker
from playground.server.app import create
from playground.settings import Settings
from playground.system.hardware import GIB
from playground.ui import models
from playground.workers.loadable import Loader, remote_spec
from playground.workers.memory import Need
from playground.workers.pool import WorkerPool
from playground.workers.tickets import Ticket
from tests.native import native_server
from tests.planted import Planted, free_port, hangs, says, serving, status

GREEDY = Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=16, seed=0)


@pytest.fixture
def planted() -> Iterator[Planted]:
    with serving() as planted:
        planted.replies = [says("서", "울")]
        yield planted


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.remote.openai.PAUSES_S", (0.01,))


@pytest.fixture
def open_playground(tmp_path: Path) -> Iterator[Callable[..., Playground]]:
    """Makes playgrounds of some variants beside the built-in ones; closes them."""
    made: list[Playground] = []

    def make(*rows: Variant, **more: Any) -> Playground:
        settings = Settings(data=tmp_path, **more)
        for row in rows:
            variants.add(settings, row, replace=True)
        made.append(Playground(settings))
        return made[-1]

    yield make
    for playground in made:
        playground.close()


def dead() -> str:
    """An address on the loopback where nobody listens."""
    return f"http://127.0.0.1:{free_port()}/v1"


def far(planted: Planted, **more: Any) -> Remote:
    fields: dict[str, Any] = {"name": "far", "url": planted.url, "timeout_s": 10} | more
    return Remote(**fields)


def questions(*names: str, sampling: Sampling = GREEDY) -> list[Question]:
    return [Question(variant=n, messages=(Message(role="user", content="Hi"),), sampling=sampling) for n in names]


def ends(playground: Playground, *names: str) -> dict[str, Event]:
    """How each variant's answer ended."""
    found = [event for event in playground.ask(questions(*names)) if isinstance(event, Finished | Failed)]
    return {event.variant: event for event in found}


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_a_remote_answers_beside_a_local_one(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(far(planted), Base(name="near", source="fake:near"))
    found = ends(playground, "far", "near")
    assert isinstance(found["far"], Finished)
    assert found["far"].text == "서울"
    assert isinstance(found["near"], Finished)


def test_a_dead_server_costs_one_pane_an_error(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(far(planted), Remote(name="dead", url=dead()))
    found = ends(playground, "dead", "far")
    assert isinstance(found["dead"], Failed)
    assert "cannot be reached" in found["dead"].message
    assert found["dead"].hint
    assert isinstance(found["far"], Finished)


def test_a_server_that_came_back_is_asked_again(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(far(planted))
    planted.pages.clear()
    assert isinstance(ends(playground, "far")["far"], Failed)
    planted.pages["/v1/models"] = {"data": [{"id": "new"}]}
    assert isinstance(ends(playground, "far")["far"], Finished)
    planted.replies = [status(404, "The model `new` does not exist."), says("a")]
    planted.pages["/v1/models"] = {"data": [{"id": "newer"}]}
    assert isinstance(ends(playground, "far")["far"], Failed)
    assert isinstance(ends(playground, "far")["far"], Finished)
    assert planted.bodies("/v1/chat/completions")[-1]["model"] == "newer"


@pytest.mark.parametrize("texts", [(), ("Seo",)])
def test_cancelling_hangs_up_at_once(planted: Planted, open_playground: Any, texts: tuple[str, ...]) -> None:
    playground = open_playground(far(planted))
    planted.replies = [hangs(*texts)]
    comparison = playground.ask(questions("far"))
    until(lambda: bool(planted.bodies("/v1/chat/completions")))
    events = iter(comparison)
    if texts:
        assert any(isinstance(event, Delta) for event in events)
    comparison.cancel()
    last = list(events)[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.text) == ("cancelled", "".join(texts))
    assert planted.hung_up.wait(60)


def test_cancelling_between_attempts_ends_the_wait(
    planted: Planted, open_playground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.remote.openai.PAUSES_S", (600.0,))
    playground = open_playground(far(planted))
    planted.replies = [status(503)]
    comparison = playground.ask(questions("far"))
    until(lambda: bool(planted.bodies("/v1/chat/completions")))
    comparison.cancel()
    assert [type(event) for event in comparison][-1] is Finished


def test_a_row_cancelled_before_its_task_begins_still_ends(planted: Planted) -> None:
    worker = RemoteWorker(remote_spec(far(planted)))
    worker.wait_loaded()
    events: list[Event] = []
    held = threading.Event()
    worker._loop.call_soon_threadsafe(held.wait, 5)  # the loop is busy, so both come in one go
    ticket = Ticket("far", events.append)
    worker.ask([(ticket, RowRequest(id=ticket.id, variant="far", text="x", sampling=GREEDY))])
    worker.cancel([ticket.id])
    held.set()
    until(lambda: bool(events))
    assert isinstance(events[-1], Finished)
    worker.stop()


def test_unloading_fails_what_is_under_way_and_leaves_no_thread(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(far(planted))
    planted.replies = [hangs("Seo")]
    comparison = playground.ask(questions("far"))
    events = iter(comparison)
    assert any(isinstance(event, Delta) for event in events)
    playground.pool.unload(remote_spec(far(planted)))
    last = list(events)[-1]
    assert isinstance(last, Failed)
    assert "unloaded" in last.message
    assert planted.hung_up.wait(60)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "remote far"])


def test_a_refused_greeting_leaves_no_thread(open_playground: Any) -> None:
    playground = open_playground(Remote(name="gone", url=dead()))
    ends(playground, "gone")
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "remote gone"])


def test_a_line_that_cannot_be_made_costs_one_pane_an_error(
    planted: Planted, open_playground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there.pem")
    far_away = Remote(name="far", url="https://10.0.0.1/v1")
    playground = open_playground(far_away, Base(name="near", source="fake:near"))
    found = ends(playground, "far", "near")
    assert isinstance(found["near"], Finished)
    assert isinstance(found["far"], Failed)
    assert "/not/there.pem cannot be read" in found["far"].message
    looked = reach.reached([remote_spec(far_away)])
    assert isinstance(looked["far"], VariantError)
    playground.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "remote far"]


def test_a_fault_of_ours_at_the_greeting_is_an_error_of_the_pane(
    planted: Planted, open_playground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.remote.worker.Server", lambda spec: 1 / 0)
    playground = open_playground(far(planted), Base(name="near", source="fake:near"))
    found = ends(playground, "far", "near")
    assert isinstance(found["near"], Finished)
    assert isinstance(found["far"], Failed)
    assert "ZeroDivisionError" in found["far"].message
    playground.close()


def test_asking_after_the_end_is_refused(planted: Planted) -> None:
    worker = RemoteWorker(remote_spec(far(planted)))
    worker.stop()
    worker.stop()
    with pytest.raises(WorkerError):
        worker.ask([])
    with pytest.raises(WorkerError):
        worker.call("encode", texts=[], add_special=None)
    worker.cancel(["nothing"])


def test_a_bug_ends_its_row(planted: Planted, open_playground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*values: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("playground.remote.openai.Server.answer", breaks)
    found = ends(open_playground(far(planted)), "far")["far"]
    assert isinstance(found, Failed)
    assert "ZeroDivisionError" in found.message


def test_a_full_memory_holds_no_remote_up(planted: Planted, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, ram_budget_gb=1)
    pool = WorkerPool(settings, estimate=lambda spec: Need(ram=0 if spec.remote else GIB))
    playground = Playground(settings, pool=pool)
    for row in (far(planted), Base(name="a", source="fake:a"), Base(name="b", source="fake:b")):
        variants.add(settings, row)
    try:
        for name in ("far", "a", "b"):  # `b` takes the place of `a`: a remote gives no room
            assert isinstance(ends(playground, name)[name], Finished)
        assert {loaded.spec.name for loaded in pool.loaded()} == {"far", "b"}
    finally:
        playground.close()


def test_what_a_server_cannot_give_is_said(planted: Planted, open_playground: Any) -> None:
    with probing(open_playground(far(planted)), "far") as probe:
        with pytest.raises(VariantError, match="does not give what `logprobs`"):
            probe.logprobs([1, 2])
        with pytest.raises(VariantError, match="runs elsewhere"):
            _ = probe.pid


def test_what_is_looked_up(planted: Planted) -> None:
    gone = Remote(name="gone", url=dead())
    found = reach.look(remote_spec(far(planted)))
    assert (found.model, found.info.context) == ("there", 777)
    reached = reach.reached([remote_spec(far(planted)), remote_spec(gone)])
    assert reached["far"] is None
    assert isinstance(reached["gone"], MadangError)


def test_a_remote_row_is_written_and_read(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    row = Remote(name="far", url="https://host:8443/v1/", model="m", base="smollm2", key_env="FAR_API_KEY", context=512)
    variants.add(settings, row)
    assert Catalogue.load(settings).get("far") == row
    assert row.url == "https://host:8443/v1"
    catalogue = Catalogue.load(settings)
    base = catalogue.base_of(row)
    assert base is not None
    assert base.name == "smollm2"
    assert Loader(settings, catalogue, None).download_bytes(row) == 0  # type: ignore[arg-type]
    variants.remove(settings, "far")
    assert "far" not in Catalogue.load(settings).names


@pytest.mark.parametrize(
    "row",
    [
        {"url": "ftp://host/v1"},
        {"url": "host:8000/v1"},
        {"url": "http://"},
        {"url": "http://user:sk-secret@host/v1"},
        {"url": "http://host/v1?key=sk-secret"},
        {"url": "http://ho st/v1"},
        {"url": "http://10.0.0.256:8000/v1"},
        {"url": "http://host:99999/v1"},
        {"url": "http://host/v1", "key_env": "sk-secret"},
        {"url": "http://host/v1", "timeout_s": 0},
        {"url": "http://host/v1", "source": "owner/model"},
        {},
    ],
)
def test_rows_that_are_wrong(row: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        variants.parse({"kind": "remote", "name": "far"} | row, "the row")
    assert "sk-secret" not in f"{caught.value.message} {caught.value.hint}"


FORM: dict[str, Any] = {
    **{"kind": "remote", "name": "far", "source": "", "base": None, "file": "", "prompt_format": None, "context": None},
    **{"dtype": "auto", "load_in_4bit": False, "model": "", "key_env": ""},
}


def test_the_table_shows_the_address_and_whether_it_answers(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(far(planted, model="there"), Remote(name="gone", url=dead()))
    shown = models.table(playground)
    assert planted.url in shown
    assert "there</small>" in shown
    assert shown.count('class="state on"') == 1
    assert shown.count('class="state off"') == 1
    assert 'class="state off"' not in models.table(playground, ask=False)
    ends(playground, "far")
    assert 'data-action="unload"' not in models.table(playground)


def test_the_form_asks_the_server_before_it_adds(planted: Planted, open_playground: Any) -> None:
    playground = open_playground()
    refused = models.add(playground, FORM | {"url": dead()})
    assert not refused.good
    assert "far" not in playground.catalogue.names
    done = models.add(playground, FORM | {"url": planted.url})
    assert done.good
    assert "777" in done.html
    assert playground.catalogue.get("far") == Remote(name="far", url=planted.url)
    assert models.act(playground, "check", "far").good


def test_a_visitor_adds_no_address(planted: Planted, open_playground: Any) -> None:
    playground = open_playground(mode="space")
    for act in (models.add, models.check_form):
        refused = act(playground, FORM | {"url": planted.url})
        assert not refused.good
        assert "not taken" in refused.html
    assert planted.seen == []
    assert "far" not in playground.catalogue.names


@contextmanager
def our_server(data: Path, *rows: Variant) -> Iterator[str]:
    """Our own API over a fake and some rows, in this process."""
    data.mkdir()
    settings = Settings(data=data)
    for row in (Base(name="fake", source="fake:b", context=2048), *rows):
        variants.add(settings, row)
    playground = Playground(settings)
    server = uvicorn.Server(uvicorn.Config(create(playground), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(20)
        playground.close()


def test_another_madang_answers_and_scores_as_the_variant_does_here(tmp_path: Path, open_playground: Any) -> None:
    with our_server(tmp_path / "other") as url:
        row = Remote(name="far", url=url, model="fake")
        playground = open_playground(row, Base(name="fake", source="fake:b", context=2048))
        found = ends(playground, "far")["far"]
        assert isinstance(found, Finished), found
        assert found.text == "fake heard: Hi"
        with probing(playground, "far") as there, probing(playground, "fake") as here:
            assert there.encode(["수도"]) == here.encode(["수도"])
            asked = [Choices(context=(65, 66), continuations=((67, 68), (65,)))]
            there.vocabulary()
            assert there.score(asked).logprobs[0][0] != 0.0


@pytest.mark.parametrize("stream", [False, True])
def test_our_api_counts_the_tokens_that_a_remote_read(tmp_path: Path, planted: Planted, stream: bool) -> None:
    body: dict[str, Any] = {"model": "far", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    with our_server(tmp_path / "ours", far(planted)) as url:
        said = httpx.post(f"{url}/chat/completions", json=body, timeout=20).text
    last = said.split("data: ")[-2] if stream else said
    counted = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    assert json.loads(last)["usage"] == counted | {"completion_tokens_details": {"reasoning_tokens": 0}}


def test_a_remote_that_wants_another_key_is_no_fault_of_our_client(tmp_path: Path, planted: Planted) -> None:
    with our_server(tmp_path / "ours", far(planted)) as url:
        planted.replies = [status(401, "no")]
        body = {"model": "far", "messages": [{"role": "user", "content": "Hi"}]}
        assert httpx.post(f"{url}/chat/completions", json=body, timeout=20).status_code == 500


def scores(probe: Probe, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
    """The choices' log-probabilities, encoded as evaluation does it."""
    asked = []
    for context, rests in pairs:
        [ids, *wholes] = probe.encode([context, *(context + rest for rest in rests)])
        asked.append(Choices(context=tuple(ids), continuations=tuple(tuple(whole[len(ids) :]) for whole in wholes)))
    return probe.score(asked).logprobs


KOBEST = [
    ("물이 끓었다. 왜냐하면", (" 불을 켰기 때문이다.", " 불을 껐기 때문이다.")),
    ("비가 왔다. 그래서", (" 우산을 썼다.", " 우산을 버렸다.")),
    ("The capital of France is", (" Paris.", " Rome.", " Berlin.")),
]


@pytest.mark.slow
@pytest.mark.models
def test_llama_server_chats_and_scores_as_the_same_file_here(
    demo_f16: Path, tmp_path: Path, open_playground: Any
) -> None:
    with native_server(demo_f16, tmp_path) as url:
        near = Gguf(name="near", source=str(demo_f16), context=2048)
        playground = open_playground(Remote(name="far", url=url), near, threads=1)
        found = ends(playground, "far", "near")
        for end in found.values():
            assert isinstance(end, Finished), end
        assert found["far"].text == found["near"].text  # type: ignore[union-attr]
        with probing(playground, "far") as there, probing(playground, "near") as here:
            texts = [context + rests[0] for context, rests in KOBEST]
            assert there.encode(texts) == here.encode(texts)
            ours = here.vocabulary()  # a server tells of two special tokens alone
            told = {name: ours.tokens[name] for name in ("bos_token", "eos_token")}
            assert there.vocabulary() == ours.model_copy(update={"tokens": told})
            for mine, its in zip(scores(here, KOBEST), scores(there, KOBEST), strict=True):
                assert its == pytest.approx(mine, abs=0.1)
                assert its.index(max(its)) == mine.index(max(mine))
