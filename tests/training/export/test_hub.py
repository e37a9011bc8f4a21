"""Uploads at our own seam: what goes up, what never does, and what each refusal says."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, errors
from huggingface_hub.utils import filter_repo_objects

from playground.errors import ConfigError, HubError
from tests.training.export.conftest import tree
from training.export.hub import FILES, Kind, push

TOKEN = "hf_" + "secretsecretsecretsecret1234567890"
REPO = "kim/madang-tuned"


def refused(status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> errors.HfHubHTTPError:
    """The Hub's answer as huggingface_hub raises it: its text and its request hold the token."""
    request = httpx.Request("POST", "https://huggingface.co/api", headers={"authorization": f"Bearer {TOKEN}"})
    return kind(f"{status}: Bearer {TOKEN}", response=httpx.Response(status, request=request))


class FakeHub:
    """A Hub of one repository, in memory; raises what it is told to at the step it is told."""

    def __init__(self, held: set[str] | None = None, private: bool = True) -> None:
        self.held, self.private = held, private
        self.fails: dict[str, Exception] = {}
        self.created: list[dict[str, Any]] = []
        self.options: dict[str, Any] = {}

    def repo_info(self, repo_id: str, *, token: str) -> Any:
        self._fail("look")
        if self.held is None:
            raise refused(404, errors.RepositoryNotFoundError)
        return SimpleNamespace(
            private=self.private, siblings=[SimpleNamespace(rfilename=name) for name in sorted(self.held)]
        )

    def create_repo(self, repo_id: str, *, token: str, private: bool, exist_ok: bool) -> None:
        self._fail("create")
        self.created.append({"repo": repo_id, "private": private, "exist_ok": exist_ok})
        self.held, self.private = {".gitattributes"}, private

    def upload_folder(self, **options: Any) -> None:
        self._fail("upload")
        assert self.held is not None
        self.options = options
        files = [
            str(file.relative_to(options["folder_path"]))
            for file in options["folder_path"].rglob("*")
            if file.is_file()
        ]
        self.held |= set(filter_repo_objects(files, allow_patterns=options["allow_patterns"]))

    def _fail(self, step: str) -> None:
        if step in self.fails:
            raise self.fails.pop(step)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export with everything in it that an upload could take by mistake."""
    made = tmp_path / "export"
    for name in (
        "adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors", "README.md", "LICENSE",
        "tokenizer.json", "chat_template.jinja", "a-Q4_K_M.gguf", "odd[1].gguf", "Modelfile", "recipe.yaml",
        "training_args.bin", "optimizer.pt", "pytorch_model.bin", "tokenizer.pkl", ".env", "run.log", "tokenizer.log",
        ".work/a-F16.gguf", "checkpoint-2/model.safetensors", "state.json", ".a.gguf.1-2-3.part",
    ):  # fmt: skip
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("{}")
    (made / "tokenizer_link.json").symlink_to(made / ".env")
    return made


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("adapter", {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"}),
        ("merged", {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}),
        ("gguf", {"a-Q4_K_M.gguf", "odd[1].gguf", "Modelfile"}),
        ("gptq", {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}),
    ],
)
def test_only_what_belongs_there_goes_up(folder: Path, kind: Kind, names: set[str]) -> None:
    hub = FakeHub()
    before = tree(folder)
    assert push(folder, REPO, kind, token=TOKEN, api=hub) == f"https://huggingface.co/{REPO}"
    assert hub.held == names | {"README.md", "LICENSE", ".gitattributes"}
    assert hub.created == [{"repo": REPO, "private": True, "exist_ok": False}]
    assert hub.options["delete_patterns"] is None
    assert tree(folder) == before


def test_the_seam_is_the_hubs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake that is called otherwise than the real one proves nothing."""
    import inspect

    for name in ("repo_info", "create_repo"):
        ours = inspect.signature(getattr(FakeHub, name)).parameters
        assert set(ours) <= set(inspect.signature(getattr(HfApi, name)).parameters)


def test_upload_options_are_the_hubs(folder: Path) -> None:
    import inspect

    hub = FakeHub()
    push(folder, REPO, "merged", token=TOKEN, api=hub)
    inspect.signature(HfApi.upload_folder).bind(None, **hub.options)


REFUSALS: dict[str, tuple[str, Callable[[], Exception], str, str]] = {
    "token refused": ("look", lambda: refused(401, errors.RepositoryNotFoundError), "refused the token", "HF_TOKEN"),
    "token of create": ("create", lambda: refused(401), "refused the token", "hf auth login"),
    "read token": ("create", lambda: refused(403), "may not write", "write"),
    "no such owner": ("create", lambda: refused(404, errors.RepositoryNotFoundError), "no owner", "owner/name"),
    "made meanwhile": ("create", lambda: refused(409), "by someone else", "untouched"),
    "rate limit": ("upload", lambda: refused(429), "too many requests", "untouched"),
    "server": ("upload", lambda: refused(502), "answered 502", "untouched"),
    "dropped": ("upload", lambda: httpx.ReadError(f"Bearer {TOKEN}"), "connection .* broke", "goes on"),
    "timeout": ("upload", lambda: httpx.ConnectTimeout("slow"), "connection .* broke", "goes on"),
    "reset": ("upload", lambda: ConnectionResetError(104, f"reset {TOKEN}"), "connection .* broke", "goes on"),
    "uploader": ("upload", lambda: RuntimeError(f"Data processing error: {TOKEN}"), "connection .* broke", "goes on"),
    "unreadable": ("upload", lambda: PermissionError(13, "Permission denied", "/x/model.safetensors"), "read", "perm"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_to_do_shows_no_secret_and_can_be_run_again(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    step, error, message, hint = REFUSALS[case]
    hub, before = FakeHub(), tree(folder)
    hub.fails[step] = error()
    with caplog.at_level(logging.DEBUG), pytest.raises(HubError, match=message) as caught:
        push(folder, REPO, "merged", token=TOKEN, api=hub)
    assert hint in caught.value.hint
    assert tree(folder) == before
    assert caught.value.__suppress_context__
    import traceback

    shown = (
        "".join(traceback.format_exception(caught.value))
        + caught.value.hint
        + caplog.text
        + "".join(capfd.readouterr())
    )
    assert TOKEN not in shown
    push(folder, REPO, "merged", token=TOKEN, api=hub)
    assert hub.held is not None
    assert "model.safetensors" in hub.held


def test_a_repository_that_exists_is_left_alone_unless_asked(folder: Path) -> None:
    hub = FakeHub({".gitattributes", "model-00001-of-00002.safetensors"})
    with pytest.raises(HubError, match="exists already, with 1 files"):
        push(folder, REPO, "merged", token=TOKEN, api=hub)
    assert hub.held == {".gitattributes", "model-00001-of-00002.safetensors"}
    push(folder, REPO, "merged", token=TOKEN, api=hub, replace=True)
    assert hub.created == []
    assert "model*.safetensors" in hub.options["delete_patterns"]
    assert "README.md" not in hub.options["delete_patterns"]
    push(folder, REPO, "gguf", token=TOKEN, api=hub, replace=True)
    assert hub.options["delete_patterns"] is None


def test_what_was_to_be_private_never_joins_a_public_repository(folder: Path) -> None:
    hub = FakeHub({".gitattributes"}, private=False)
    with pytest.raises(HubError, match="is public"):
        push(folder, REPO, "merged", token=TOKEN, api=hub, replace=True)
    push(folder, REPO, "merged", private=False, token=TOKEN, api=hub)


@pytest.mark.parametrize("repo", ["alone", "a/b/c", "a/b c", "a/--b", "/b", "", "a/b.git", "kim/마당"])
def test_a_name_that_is_none_is_refused_before_anything(folder: Path, repo: str) -> None:
    hub = FakeHub()
    with pytest.raises(HubError, match="no name for a repository"):
        push(folder, repo, "merged", token=TOKEN, api=hub)
    assert hub.created == []


def test_without_a_login_it_says_how(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match="no Hub token") as caught:
        push(folder, REPO, "merged", api=FakeHub())
    assert "HF_TOKEN" in caught.value.hint


def test_the_environments_token_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub = FakeHub()
    push(folder, REPO, "adapter", api=hub)
    assert hub.options["token"] == TOKEN


@pytest.mark.parametrize("text", [f"token: {TOKEN}", f"base: {Path.home()}/models/base"], ids=["secret", "home"])
def test_secrets_and_paths_in_its_own_text_stop_it(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(text)
    hub = FakeHub()
    with pytest.raises(HubError, match=r"README\.md") as caught:
        push(folder, REPO, "merged", token=TOKEN, api=hub)
    assert TOKEN not in str(caught.value)
    assert hub.created == []


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_without_the_export_is_refused(tmp_path: Path, kind: Kind) -> None:
    with pytest.raises(ConfigError, match=f"holds no {kind} export"):
        push(tmp_path / "none", REPO, kind, token=TOKEN, api=FakeHub())
