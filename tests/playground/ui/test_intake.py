"""What the page takes in, over ASGI: calls of any size, and uploads: large ones, many, cut off, or none of its mode."""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio import route_utils
from gradio.route_utils import delete_files_created_by_app

from playground.settings import Settings
from playground.ui import intake
from playground.ui.intake import AROUND_BYTES, CALL_BYTES

from .served import API, Page, page_of

UPLOAD = f"{API}/upload"
CALLS = [f"{API}/{name}" for name in ("queue/join", "run/predict", "call/x", "cancel", "reset", "component_server")]
CALLS += [f"{API}/process_recording", f"{API}/stream/x", "/login", "/"]
FORM = "multipart/form-data; boundary=here"
LARGEST = 300_000


@pytest.fixture(scope="module")
def a_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    settings = Settings(data=tmp_path_factory.mktemp("data"), upload_max_mb=LARGEST / 1e6, upload_max_files=3)
    with page_of(settings) as page:
        yield page


@pytest.fixture
def page(a_page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page, an hour after the last test."""
    monkeypatch.setattr(a_page.gradio, "uploaded_file_dir", str(tmp_path))
    with monkeypatch.context() as later:
        later.setattr(intake, "HOUR_S", -1.0)
        assert upload(a_page) == 200
    return a_page


def taken(page: Page) -> list[int]:
    """Sizes of the files that lie there."""
    return [one.stat().st_size for one in Path(page.gradio.uploaded_file_dir).rglob("*") if one.is_file()]


def form(*files: bytes) -> bytes:
    head = b'--here\r\nContent-Disposition: form-data; name="files"; filename="%d.jsonl"\r\n\r\n'
    return b"".join(head % number + content + b"\r\n" for number, content in enumerate(files)) + b"--here--\r\n"


def upload(page: Page, *files: bytes) -> int:
    async def sent() -> int:
        async with page.client() as http:
            return (await http.post(UPLOAD, content=form(*files), headers={"content-type": FORM})).status_code

    return asyncio.run(sent())


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("declared", [True, False])
def test_no_call_is_larger_than_one_of_the_page(page: Page, path: str, declared: bool) -> None:
    length: dict[str, Any] = {"content_length": str(5 * CALL_BYTES)} if declared else {}
    for kind in ("application/json", FORM):
        parts = [b"[" * 500_000] * 10
        status, _ = asyncio.run(page.call(path, parts, content_type=kind, **length))
        assert 400 <= status < 500
        assert len(parts) >= 5


@pytest.mark.parametrize(("size", "status"), [(10, 200), (LARGEST, 200), (LARGEST + 1, 413), (10 * LARGEST, 413)])
def test_an_upload_has_a_size(page: Page, size: int, status: int) -> None:
    assert upload(page, b"x" * size) == status
    assert taken(page) == [size] * (status == 200)


def test_an_upload_is_no_sum_of_others(page: Page) -> None:
    assert upload(page, b"x" * LARGEST, b"y" * LARGEST) == 413
    assert taken(page) == []


def test_fields_beside_the_files_have_a_size(page: Page) -> None:
    field = (
        b'--here\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
        + b"y" * (LARGEST + AROUND_BYTES)
        + b"\r\n--here--"
    )
    status, _ = asyncio.run(page.call(UPLOAD, [field], content_type=FORM))
    assert status == 413


def test_uploads_have_a_number_an_hour(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [upload(page, bytes([letter])) for letter in b"abcde"] == [200, 200, 200, 429, 429]
    assert len(taken(page)) == 3
    _, said = asyncio.run(page.call(UPLOAD, [form(b"f")], content_type=FORM))
    assert "3 files an hour" in said.decode()
    assert "한 시간에 3개까지" in said.decode()
    monkeypatch.setattr(intake, "HOUR_S", -1.0)
    assert upload(page, b"f") == 200


def test_nor_come_more_in_one(page: Page) -> None:
    assert upload(page, b"a", b"b", b"c", b"d") == 400
    assert taken(page) == []
    assert upload(page, b"a", b"b", b"c") == 200


def test_a_mark_between_two_parts_of_a_body_counts(page: Page) -> None:
    parts = [bytes([one]) for one in form(b"a", b"b", b"c", b"d", b"e")]
    status, _ = asyncio.run(page.call(UPLOAD, parts, content_type=FORM))
    assert status == 400
    assert taken(page) == []


def test_what_was_uploaded_goes_after_an_hour(page: Page) -> None:
    assert page.blocks.delete_cache == (600, 3600)
    assert upload(page, b"a", b"b") == 200
    delete_files_created_by_app(page.blocks, age=3600)
    assert len(taken(page)) == 2
    delete_files_created_by_app(page.blocks, age=-1)
    assert taken(page) == []


@pytest.mark.parametrize("sent", [0.1, 0.5, 0.99])
def test_an_upload_that_is_cut_off_leaves_nothing(page: Page, sent: float) -> None:
    whole = form(b"x" * 100_000)
    asyncio.run(page.call(UPLOAD, [whole[: int(sent * len(whole))]], content_type=FORM))
    assert taken(page) == []


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (errno.ENOSPC, 507, "The disk is full"),
        (errno.EDQUOT, 507, "The disk is full"),
        (errno.EROFS, 500, "Read-only file system"),
        (errno.EMFILE, 500, "Too many files"),
    ],
)
@pytest.mark.parametrize("written", [0, 1])
def test_an_upload_that_the_machine_refuses_leaves_nothing(
    page: Page, number: int, status: int, said: str, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, parts = route_utils.GradioUploadFile.write, []

    async def refuses(file: route_utils.GradioUploadFile, data: bytes) -> None:
        parts.append(data)
        if len(parts) > written:
            raise OSError(number, os.strerror(number), page.gradio.uploaded_file_dir)
        await write(file, data)

    monkeypatch.setattr(route_utils.GradioUploadFile, "write", refuses)
    found, answer = asyncio.run(page.call(UPLOAD, [form(b"x" * 1000, b"y" * 1000)], content_type=FORM))
    assert (found, said in answer.decode()) == (status, True)
    assert str(Path(page.gradio.uploaded_file_dir).parent) not in answer.decode()
    assert taken(page) == []


def test_a_space_takes_no_file(tmp_path: Path) -> None:
    with page_of(Settings(data=tmp_path / "data", mode="space")) as page:
        page.gradio.uploaded_file_dir = str(tmp_path / "uploads")
        for path in (UPLOAD, f"{UPLOAD}/", f"{UPLOAD}?upload_id=x"):
            status, said = asyncio.run(page.call(path, [form(b"x")], content_type=FORM))
            assert (status, said) == (403, b"This page takes no files.")
        assert taken(page) == []
