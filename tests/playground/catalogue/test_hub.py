"""Downloads from a small Hub on this machine: huggingface_hub's own requests, against every answer a Hub may give."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

from playground.catalogue import downloads, hub
from playground.catalogue.hub import HubFile, HuggingFaceHub
from playground.catalogue.hub_search import HubModel
from playground.errors import HubError, MadangError, SetupError, VariantError

COMMIT = "c0ffee" * 6 + "c0ff"
LARGE = 2000


class Answer(NamedTuple):
    """An answer of the Hub that is no file."""

    status: int
    code: str = ""
    message: str = ""


class LocalHub(ThreadingHTTPServer):
    """As much of the Hub's HTTP as huggingface_hub asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.refusals: dict[str, Answer] = {}
        self.got: list[tuple[str, str]] = []
        """File and range of every download."""
        self.found: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        """What searches find, and what they asked."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        is_api = parts[:2] == ["api", "models"]
        if parts == ["api", "models"]:
            self.server.asked.append(dict(parse_qsl(urlsplit(self.path).query)))
            return self._json(self.server.found)
        owner, name, *rest = parts[2:] if is_api else parts
        repo = f"{owner}/{name}"
        if repo in self.server.refusals:
            return self._refuse(self.server.refusals[repo])
        if repo not in self.server.repos:
            return self._refuse(Answer(401, "RepoNotFound", "Repository not found"))
        if len(rest) > 1 and rest[1] not in {"main", COMMIT}:
            return self._refuse(Answer(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}"))
        if is_api:
            return self._json(self._tree(repo) if rest[0] == "tree" else {"id": repo, "sha": COMMIT, "siblings": []})
        return self._file("/".join(rest[2:]), self.server.repos[repo])

    def _tree(self, repo: str) -> list[dict[str, Any]]:
        rows = []
        for path, raw in self.server.repos[repo].items():
            row: dict[str, Any] = {"type": "file", "path": path, "size": len(raw), "oid": _etag(raw)}
            if len(raw) >= LARGE:
                row["lfs"] = {"oid": _etag(raw), "size": len(raw), "pointerSize": 100}
            rows.append(row)
        return rows

    def _file(self, name: str, files: dict[str, bytes]) -> None:
        raw = files[name]
        headers = {"ETag": f'"{_etag(raw)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "")
        if self.command == "GET":
            self.server.got.append((name, wanted))
        begin = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        self._send(206 if begin else 200, raw[begin:], headers)

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, answer: Answer) -> None:
        self._send(answer.status, b"{}", {"X-Error-Code": answer.code, "X-Error-Message": answer.message})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(raw: bytes) -> str:
    return (hashlib.sha256 if len(raw) >= LARGE else hashlib.sha1)(raw).hexdigest()


WEIGHTS = bytes(range(256)) * 40
BASE = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle" * 1000,
    "modeling_x.py": b"print('code')",
    "original/model.safetensors": b"double" * 1000,
    "README.md": b"# a model",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    server = LocalHub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(hub, "LARGE", LARGE)
    huggingface_hub.close_session()
    server.repos["owner/base"] = dict(BASE)
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()


class Told:
    """Progress that remembers what it was told, and may stop the download."""

    def __init__(self, stop_at: float = 2.0) -> None:
        self.shares: list[float] = []
        self.words: list[str] = []
        self.stop_at = stop_at

    def __call__(self, share: float, what: str) -> None:
        self.shares.append(share)
        self.words.append(what)
        if share >= self.stop_at:
            raise MadangError("stopped")


def refusal(error: type[MadangError], repo: str = "owner/base", revision: str | None = None) -> MadangError:
    """What every way of asking says, which must be the same."""
    told = []
    for ask in (
        lambda: HuggingFaceHub().files(repo, revision),
        lambda: HuggingFaceHub().fetch_folder(repo, revision, Told()),
        lambda: HuggingFaceHub().fetch_file(repo, "x.gguf", revision, Told()),
        lambda: HuggingFaceHub().fetch_file(repo, None, revision, Told()),
    ):
        with pytest.raises(error) as caught:
            ask()
        told.append(caught.value)
    assert len({(one.message, one.hint) for one in told}) == 1
    return told[0]


def test_sizes_are_known_before_anything_comes(server: LocalHub, capfd: pytest.CaptureFixture[str]) -> None:
    found = HuggingFaceHub().files("owner/base", None)
    assert sorted(found, key=lambda file: file.name) == [
        HubFile("README.md", 9, False),
        HubFile("config.json", 2, False),
        HubFile("model.safetensors", len(WEIGHTS), False),
        HubFile("tokenizer.json", 2, False),
    ]
    assert server.got == []
    assert capfd.readouterr() == ("", "")


def test_a_folder_comes_with_progress_and_without_pickles_or_code(server: LocalHub) -> None:
    told = Told()
    folder = HuggingFaceHub().fetch_folder("owner/base", None, told)
    names = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert told.shares == sorted(told.shares)
    assert (told.shares[0], told.shares[-1]) == (0.0, 1.0)
    assert len(told.shares) >= len(WEIGHTS) // 1000
    assert told.words[0].startswith("owner/base: 0.00 GiB to download")
    assert sorted(name for name, _ in server.got) == names


@pytest.mark.parametrize("large", [LARGE, 10**9])
def test_bytes_are_counted_once(large: int, server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "LARGE", large)  # by our own hand, or all by huggingface_hub's
    told = Told()
    HuggingFaceHub().fetch_folder("owner/base", None, told)
    assert told.shares.index(1.0) == len(told.shares) - 1  # a double count would be done halfway
    steps = [after - before for before, after in zip(told.shares, told.shares[1:], strict=False)]
    assert max(steps) <= 1000 / len(WEIGHTS) + 0.001


def test_what_is_here_needs_no_network(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repos["owner/gguf"] = {"x.gguf": WEIGHTS}
    folder = HuggingFaceHub().fetch_folder("owner/base", None, Told())
    file = HuggingFaceHub().fetch_file("owner/gguf", None, None, Told())
    server.shutdown()
    server.server_close()
    told = Told()
    assert HuggingFaceHub().fetch_folder("owner/base", None, told) == folder
    assert HuggingFaceHub().fetch_file("owner/gguf", "x.gguf", None, told) == file
    assert told.words == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_interrupted_download_goes_on_where_it_stopped(kind: str, server: LocalHub) -> None:
    server.repos["owner/gguf"] = {"x.gguf": WEIGHTS}

    def fetch(told: Told) -> Path:
        if kind == "file":
            return HuggingFaceHub().fetch_file("owner/gguf", "x.gguf", None, told)
        return HuggingFaceHub().fetch_folder("owner/base", None, told) / "model.safetensors"

    with pytest.raises(MadangError, match="stopped"):
        fetch(Told(stop_at=0.5))
    told = Told()
    assert fetch(told).read_bytes() == WEIGHTS
    ranges = [wanted for name, wanted in server.got if name in {"x.gguf", "model.safetensors"}]
    assert ranges[0] == ""
    assert len(ranges) == 2
    begin = int(ranges[1].removeprefix("bytes=").rstrip("-"))
    assert len(WEIGHTS) * 0.4 <= begin < len(WEIGHTS)
    assert told.shares[1] >= 0.4  # what had come is counted
    assert told.shares[-1] == 1.0
    left = [path.name for path in Path(constants.HF_HUB_CACHE).rglob("*.madang-part")]
    assert left == []


def test_a_damaged_part_is_thrown_away(server: LocalHub) -> None:
    with pytest.raises(MadangError, match="stopped"):
        HuggingFaceHub().fetch_folder("owner/base", None, Told(stop_at=0.5))
    (part,) = Path(constants.HF_HUB_CACHE).rglob("*.madang-part")
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(HubError, match="came damaged"):
        HuggingFaceHub().fetch_folder("owner/base", None, Told())
    folder = HuggingFaceHub().fetch_folder("owner/base", None, Told())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_part_that_is_too_long_begins_anew(server: LocalHub) -> None:
    with pytest.raises(MadangError, match="stopped"):
        HuggingFaceHub().fetch_folder("owner/base", None, Told(stop_at=0.5))
    (part,) = Path(constants.HF_HUB_CACHE).rglob("*.madang-part")
    part.write_bytes(WEIGHTS + b"more")
    folder = HuggingFaceHub().fetch_folder("owner/base", None, Told())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_gated_repository(server: LocalHub) -> None:
    server.refusals["owner/base"] = Answer(403, "GatedRepo", "Access to model owner/base is restricted")
    error = refusal(HubError)
    assert "owner/base is gated" in error.message
    assert "https://huggingface.co/owner/base" in error.hint
    assert "HF_TOKEN" in error.hint


def test_a_private_or_missing_repository(server: LocalHub) -> None:
    error = refusal(HubError, "owner/nothing")
    assert "knows no 'owner/nothing', or it is private" in error.message
    assert "hf auth login" in error.hint


def test_a_token_that_is_not_valid(server: LocalHub) -> None:
    server.refusals["owner/base"] = Answer(401, "", "Invalid credentials in Authorization header")
    error = refusal(HubError)
    assert error.message == "The Hub refused the token for owner/base."
    assert "HF_TOKEN" in error.hint


def test_a_revision_that_does_not_exist(server: LocalHub) -> None:
    error = refusal(HubError, revision="v9")
    assert error.message == "owner/base has no revision 'v9'."


def test_a_hub_that_is_down(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.refusals["owner/base"] = Answer(503)
    error = refusal(HubError)
    assert error.message == "The Hub answered 503 for owner/base."
    assert "Try again" in error.hint


def test_no_network(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.shutdown()
    server.server_close()
    error = refusal(HubError)
    assert error.message == "The Hub cannot be reached for owner/base (ConnectError)."
    assert "on this machine work without it" in error.hint


def test_offline_by_choice(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot be reached" in refusal(HubError).message


def test_the_network_goes_in_the_middle(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def goes(*args: Any, **options: Any) -> None:
        import httpx

        raise httpx.ReadTimeout("too slow")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", goes)
    with pytest.raises(HubError, match=r"cannot be reached for owner/base \(ReadTimeout\)"):
        HuggingFaceHub().fetch_folder("owner/base", None, Told())


def test_what_is_no_hub_id() -> None:
    for repo in ("a/b/c", "owner/..", "-x/y--z"):
        with pytest.raises(HubError, match="not a Hub id"):
            HuggingFaceHub().files(repo, None)


def test_pickles_alone_are_not_fetched(server: LocalHub) -> None:
    server.repos["owner/base"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle" * 1000}
    with pytest.raises(VariantError, match="owner/base has no safetensors") as caught:
        HuggingFaceHub().fetch_folder("owner/base", None, Told())
    assert "run any code" in caught.value.hint
    assert server.got == []


def test_several_ggufs_are_listed_with_sizes(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "GIB", 1000)
    server.repos["owner/gguf"] = {"x-Q4_K_M.gguf": b"q" * 4100, "x-Q8_0.gguf": b"q" * 8200, "README.md": b""}
    for name, said in ((None, "several GGUF files"), ("x-Q5_K_M.gguf", "no file 'x-Q5_K_M.gguf'")):
        with pytest.raises(VariantError, match=said) as caught:
            HuggingFaceHub().fetch_file("owner/gguf", name, None, Told())
        assert "x-Q4_K_M.gguf (4.10 GiB), x-Q8_0.gguf (8.20 GiB)" in caught.value.message
        assert "`file`" in caught.value.hint
    assert HuggingFaceHub().fetch_file("owner/gguf", "x-Q4_K_M.gguf", None, Told()).read_bytes() == b"q" * 4100
    with pytest.raises(VariantError, match="GGUF files: none"):
        HuggingFaceHub().fetch_file("owner/base", None, None, Told())


def test_a_disk_without_room_is_told_before_the_download(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100))
    server.repos["owner/gguf"] = {"x.gguf": WEIGHTS}
    fetches: dict[str, Callable[[], Path]] = {
        "owner/base": lambda: HuggingFaceHub().fetch_folder("owner/base", None, Told()),
        "owner/gguf": lambda: HuggingFaceHub().fetch_file("owner/gguf", "x.gguf", None, Told()),
    }
    for repo, fetch in fetches.items():
        with pytest.raises(SetupError, match=f"{repo} takes 0.0 GiB and .* has 0.0 GiB free") as caught:
            fetch()
        assert "HF_HOME" in caught.value.hint
    assert server.got == []


def test_a_bar_counts_what_reaches_the_disk_alone() -> None:
    told = Told()
    bar = downloads.byte_bar(100, "x", told)
    files, network, disk = bar(total=3), bar(unit="B", desc="Downloading bytes"), bar(unit="B", desc="Reconstructing")
    files.update(1)
    network.update(50)
    disk.update(50)
    disk.update_transfer(50)
    disk.set_transfer_postfix_str("1 MB/s", refresh=False)
    disk.update(None)
    disk.update(70)
    assert told.shares == [0.0, 0.5, 1.0]


SHARDS = {f"Q4/x-{number:05}-of-00003.gguf": WEIGHTS[: 3000 * number] for number in (1, 2, 3)}


@pytest.mark.parametrize("name", [None, "Q4/x-00001-of-00003.gguf"])
def test_all_shards_come_when_the_first_is_chosen(name: str | None, server: LocalHub) -> None:
    server.repos["owner/gguf"] = {**SHARDS, "mmproj-x-F16.gguf": WEIGHTS, "README.md": b""}
    told = Told()
    path = HuggingFaceHub().fetch_file("owner/gguf", name, None, told)
    assert path.name == "x-00001-of-00003.gguf"
    assert {f"Q4/{file.name}": file.read_bytes() for file in path.parent.iterdir()} == SHARDS
    assert sorted(set(name for name, _ in server.got)) == sorted(SHARDS)
    assert told.shares == sorted(told.shares)
    assert (told.shares[-1], told.shares.index(1.0)) == (1.0, len(told.shares) - 1)
    asked = len(server.got)
    again = HuggingFaceHub().fetch_file("owner/gguf", "Q4/x-00001-of-00003.gguf", None, Told())
    assert (again, len(server.got)) == (path, asked)


def test_the_size_said_is_that_of_all_shards(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "GIB", 1000)
    server.repos["owner/gguf"] = {**SHARDS, "y.gguf": WEIGHTS[:4000]}
    with pytest.raises(VariantError, match=r"x-00001-of-00003.gguf in 3 shards \(18.00 GiB\), y.gguf \(4.00 GiB\)"):
        HuggingFaceHub().fetch_file("owner/gguf", None, None, Told())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Q4/x-00002-of-00003.gguf", "not the first.*Q4/x-00001-of-00003.gguf"),
        ("mmproj-x-F16.gguf", r"a projector \(mmproj\)"),
        ("x.imatrix.gguf", "an importance matrix"),
        ("y-00001-of-00002.gguf", "lacks 1 of the 2 shards of y-00001-of-00002.gguf: y-00002-of-00002.gguf"),
    ],
)
def test_what_cannot_be_chosen_is_told_before_it_comes(name: str, said: str, server: LocalHub) -> None:
    odd = ("mmproj-x-F16.gguf", "x.imatrix.gguf", "y-00001-of-00002.gguf")
    server.repos["owner/gguf"] = {**SHARDS, **dict.fromkeys(odd, WEIGHTS)}
    with pytest.raises(VariantError) as caught:
        HuggingFaceHub().fetch_file("owner/gguf", name, None, Told())
    assert re.search(said, f"{caught.value.message} {caught.value.hint}")
    assert server.got == []


def test_a_plan_needs_config_and_tokenizer_alone(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    folder, coming = HuggingFaceHub().fetch_plan("owner/base", None, told)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "tokenizer.json"]
    assert (coming, told.shares[-1]) == (len(WEIGHTS), 1.0)
    whole = HuggingFaceHub().fetch_folder("owner/base", None, Told())
    assert whole == folder
    assert (whole / "model.safetensors").read_bytes() == WEIGHTS
    server.shutdown()
    server.server_close()
    assert HuggingFaceHub().fetch_plan("owner/base", None, Told()) == (folder, 0)  # here, and without the network
    with pytest.raises(HubError):
        HuggingFaceHub().fetch_plan("owner/other", None, Told())


def test_a_search_reads_what_the_hub_says(server: LocalHub) -> None:
    sizes = {"parameters": {"BF16": 1000, "F32": 10}, "total": 1010}
    common = {"library_name": "transformers", "downloads": 7}
    server.found = [
        {"id": "o/base", "tags": ["safetensors", "license:apache-2.0"], "gated": "manual", "safetensors": sizes}
        | common,
        {"id": "o/gguf", "tags": ["gguf", "license:mit"], "gated": False, "gguf": {"total": 5000}},
        {"id": "o/lora", "tags": ["base_model:adapter:o/base"], "library_name": "peft"},
        {"id": "o/pickled", "tags": ["pytorch"]} | common,
        {"id": "o/pictures", "tags": ["safetensors"], "library_name": "diffusers"},
        {"id": "o/bare"},
    ]
    assert HuggingFaceHub().search("o") == [
        HubModel("o/base", "base", 1010, 2040, "apache-2.0", True, 7),
        HubModel("o/gguf", "gguf", 5000, 0, "mit"),
        HubModel("o/lora", "adapter", base="o/base"),
    ]
    assert (server.asked[0]["search"], server.asked[0]["sort"]) == ("o", "downloads")


def test_a_search_without_a_hub_says_so(server: LocalHub) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(HubError, match="cannot be reached"):
        HuggingFaceHub().search("o")


def test_whole_or_not_is_told_without_the_network(server: LocalHub) -> None:
    server.repos["owner/gguf"] = {"x.gguf": WEIGHTS}
    hub = HuggingFaceHub()
    assert (hub.here("owner/base", None), hub.here("owner/gguf", None, "x.gguf")) == (None, None)
    folder = hub.fetch_folder("owner/base", None, Told())
    file = hub.fetch_file("owner/gguf", None, None, Told())
    server.shutdown()
    server.server_close()
    assert (hub.here("owner/base", None), hub.here("owner/gguf", None, "x.gguf")) == (folder, file)
    assert hub.here("owner/gguf", None, "y.gguf") is None
