"""Uploads at our own seam: what goes up, what never does, and what each refusal says."""

import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, errors

from playground.errors import ConfigError, HubError
from tests.training.export.conftest import tree
from tests.training.export.hubs import TOKEN, FakeHub, Hubs, refused
from training.export.hub import FILES, check, push
from training.export.plan import Kind

REPO = "kim/madang-tuned"


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

    for name in ("whoami", "repo_info", "create_repo"):
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
    "unreadable": (
        "upload",
        lambda: PermissionError(13, "Permission denied", "/x/model.safetensors"),
        "cannot be opened",
        "right",
    ),
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


CHECKS: dict[str, tuple[str, Callable[[], Exception], str]] = {
    "token refused": ("who", lambda: refused(401), "refused the token"),
    "dropped": ("who", lambda: httpx.ConnectTimeout("slow"), "broke while kim/madang-tuned was asked for"),
    "no such owner": ("look", lambda: refused(401, errors.RepositoryNotFoundError), "refused the token"),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_refused_token_is_known_before_anything_is_built(case: str) -> None:
    step, error, message = CHECKS[case]
    hub = FakeHub()
    hub.fails[step] = error()
    with pytest.raises(HubError, match=message):
        check([REPO], token=TOKEN, api=hub)
    check([REPO], token=TOKEN, api=hub)
    assert hub.created == []


@pytest.mark.parametrize(
    ("repo", "role", "message"),
    [
        (REPO, "read", "may not write to kim/madang-tuned"),
        ("lee/tuned", "write", "may not write to lee/tuned: it belongs to kim"),
        (REPO, "fineGrained", "may not write to kim/madang-tuned"),
    ],
)
def test_a_token_that_may_not_write_there(repo: str, role: str, message: str) -> None:
    hub = FakeHub()
    hub.role = role
    with pytest.raises(HubError, match=message) as caught:
        check([repo], token=TOKEN, api=hub)
    assert caught.value.hint


@pytest.mark.parametrize("repo", [REPO, "Kim/tuned", "yard/tuned"])
def test_ones_own_and_ones_organizations_names_will_do(repo: str) -> None:
    check([repo], token=TOKEN, api=FakeHub())


def test_an_adapters_base_must_be_on_the_hub() -> None:
    hub = Hubs("owner/base")
    check([REPO], token=TOKEN, api=hub, needs="owner/base")
    with pytest.raises(HubError, match="base, owner/none, is not on the Hub") as caught:
        check([REPO], token=TOKEN, api=hub, needs="owner/none")
    assert "Publish it first" in caught.value.hint


def test_changed_files_go_up_changed_and_lie_here_as_they_were(folder: Path) -> None:
    hub, before = FakeHub(), tree(folder)
    text = (folder / "README.md").read_text()
    changed = {"README.md": "# Card", "adapter_config.json": '{"a": 1}', "run.log": "never"}
    push(folder, REPO, "adapter", token=TOKEN, api=hub, changed=changed)
    assert hub.texts["README.md"] == "# Card"
    assert hub.texts["adapter_config.json"] == '{"a": 1}'
    assert hub.held is not None
    assert "adapter_model.safetensors" in hub.held
    assert "run.log" not in hub.held
    assert (tree(folder), (folder / "README.md").read_text()) == (before, text)
    hub.fails["upload"] = refused(502)
    with pytest.raises(HubError):
        push(folder, REPO, "adapter", token=TOKEN, api=hub, changed=changed, replace=True)
    assert tree(folder) == before


def test_secrets_in_changed_text_stop_it(folder: Path) -> None:
    with pytest.raises(HubError, match="looks like a Hub token"):
        push(folder, REPO, "merged", token=TOKEN, api=FakeHub(), changed={"README.md": TOKEN})


def test_only_named_files_go_up_where_names_are_given(folder: Path) -> None:
    hub = FakeHub()
    push(folder, REPO, "gguf", token=TOKEN, api=hub, names=["odd[1].gguf", "README.md"])
    assert hub.held == {".gitattributes", "odd[1].gguf", "README.md"}
