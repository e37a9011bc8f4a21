"""The catalogue on the page: what is there, what is loaded, and how it changes."""

from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.hub import HubFile
from playground.catalogue.hub_search import HubModel
from playground.compare import Playground, Question
from playground.messages import Message
from playground.presets import Sampling
from playground.settings import Settings
from playground.ui import models

EMPTY = {
    "name": "",
    "source": "",
    "base": None,
    "file": "",
    "prompt_format": None,
    "context": None,
    "dtype": "auto",
    "load_in_4bit": False,
}


class ListingHub:
    """A hub that tells sizes, and of one model its config."""

    described: Path | None = None

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        if patterns is not None:
            return [HubFile("a-Q4.gguf", 2**30, False), HubFile("a-Q8.gguf", 2 * 2**30, False)]
        return [HubFile("model.safetensors", 3 * 2**30, False), HubFile("config.json", 2**10, True)]

    def fetch_folder(self, repo: str, revision: str | None, progress: Any) -> Path:
        raise AssertionError("a check downloads nothing")

    def search(self, query: str) -> list[HubModel]:
        raise AssertionError("nobody searches")

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        return None

    def fetch_plan(self, repo: str, revision: str | None, progress: Any) -> tuple[Path, int]:
        assert self.described is not None, "a check downloads nothing"
        return self.described, 3 * 2**30

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Any) -> Path:
        raise AssertionError("a check downloads nothing")


@pytest.fixture
def playground(settings: Settings) -> Any:
    playground = Playground(settings, hub=ListingHub())
    yield playground
    playground.close()


def form(**fields: Any) -> dict[str, Any]:
    return EMPTY | {"kind": "base"} | fields


def ask(playground: Playground, name: str) -> None:
    question = Question(variant=name, messages=(Message(role="user", content="Hi"),), sampling=Sampling())
    list(playground.ask([question]))


def test_every_variant_has_a_row(playground: Playground) -> None:
    shown = models.table(playground)
    for name in playground.catalogue.names:
        assert f"<b>{name}</b>" in shown


def test_what_is_loaded_can_be_unloaded(playground: Playground) -> None:
    assert 'data-action="unload"' not in models.table(playground)
    ask(playground, "smollm2:demo")
    shown = models.table(playground)
    assert shown.count('data-action="unload"') == 2  # the adapter and the base whose weights it shares
    assert models.act(playground, "unload", "smollm2:demo").good
    assert playground.pool.loaded() == []
    assert models.act(playground, "unload", "smollm2").good


def test_own_variants_can_be_removed_and_built_in_ones_cannot(playground: Playground, settings: Settings) -> None:
    assert models.act(playground, "remove", "hub").good
    assert "hub" not in playground.catalogue.names
    settings.catalogue.write_text("", encoding="utf-8")
    assert 'data-action="remove"' not in models.table(playground)
    refused = models.act(playground, "remove", "smollm2")
    assert not refused.good
    assert "built in" in refused.html


def test_a_hub_model_says_its_size_before_anything_is_downloaded(playground: Playground) -> None:
    assert "3.0 GB" in models.act(playground, "check", "hub").html


def test_several_gguf_files_are_listed_with_their_sizes(playground: Playground) -> None:
    several = models.check_form(playground, form(kind="gguf", name="g", source="owner/gguf"))
    assert not several.good
    assert "a-Q8.gguf (2.00 GiB)" in several.html
    named = models.check_form(playground, form(kind="gguf", name="g", source="owner/gguf", file="a-Q4.gguf"))
    assert "1.0 GB" in named.html


def test_a_checked_variant_is_added_and_offered(playground: Playground) -> None:
    done = models.add(playground, form(name="mine", source="fake:m", context=256))
    assert done.good
    assert playground.catalogue.get("mine").context == 256


def test_without_a_template_no_chat_is_offered_until_a_format_is_named(
    playground: Playground, tmp_path: Path, model_files: Any
) -> None:
    source = str(model_files.base(tmp_path / "bare"))
    done = models.add(playground, form(name="bare", source=source))
    assert (done.good, "no chat template" in done.html, "Chat offers it" in done.html) == (True, True, False)
    done = models.add(playground, form(name="bare", source=source, prompt_format="koalpaca"))
    assert (done.good, "no chat template" in done.html, "Chat offers it" in done.html) == (True, False, True)
    assert playground.catalogue.get("bare").prompt_format == "koalpaca"


def test_a_check_writes_nothing(playground: Playground) -> None:
    assert models.check_form(playground, form(name="mine", source="fake:m")).good
    assert "mine" not in playground.catalogue.names


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "", "source": ""}, "name"),
        ({"name": "smollm2", "source": "fake:m"}, "already"),
        ({"name": "x", "source": "/nowhere/at/all"}, "not a folder"),
        ({"kind": "adapter", "name": "x", "source": "fake:x"}, "base"),
        ({"kind": "adapter", "name": "x", "source": "fake:x", "base": "smollm2:demo"}, "smollm2:demo"),
        ({"kind": "gguf", "name": "x", "source": "/nowhere.gguf"}, "does not exist"),
        ({"name": "x", "source": "fake:x", "context": 3}, "context"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(playground: Playground, fields: Any, said: str) -> None:
    before = playground.catalogue.names
    refused = models.add(playground, form(**fields))
    assert not refused.good
    assert said in refused.html
    assert playground.catalogue.names == before


def test_fields_of_another_kind_are_left_out(playground: Playground) -> None:
    described = models.described(form(kind="gguf", name="g", source="fake:g", dtype="bf16", load_in_4bit=True))
    assert described == variants.Gguf(name="g", source="fake:g")


def test_a_long_path_is_shown_by_its_end(playground: Playground) -> None:
    folder = Path.home() / "a-folder-with-quite-a-long-name-of-its-own" / "another-one" / "model"
    variants.add(playground.settings, variants.Base(name="far", source=str(folder)))
    shown = models.table(playground)
    assert ">…/another-one/model<" in shown
    assert f'title="{folder}"' in shown


def test_an_unknown_action_does_nothing(playground: Playground) -> None:
    assert models.act(playground, "explode", "smollm2").html == ""


def test_names_and_sources_are_escaped(playground: Playground) -> None:
    refused = models.check_form(playground, form(name="<b>", source="fake:x"))
    assert "<b>" not in refused.html


def test_a_broken_catalogue_is_said(playground: Playground, settings: Settings) -> None:
    settings.catalogue.write_text("[[variant", encoding="utf-8")
    assert 'role="alert"' in models.table(playground)
    assert not models.act(playground, "check", "smollm2").good


def test_what_should_be_known_of_a_model_is_said(playground: Playground, tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "sees", vision_config={"model_type": "siglip_vision_model"})
    for act in (models.check_form, models.add):
        done = act(playground, form(name="sees", source=str(base)))
        assert done.good
        assert "uses it for text alone" in done.html
        assert "텍스트만 다루고" in done.html


def test_shards_are_one_row_with_the_size_of_all(playground: Playground, tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path / "split")
    for path in shards:
        with path.open("ab") as file:
            file.truncate(2**20)
    assert models.add(playground, form(kind="gguf", name="g", source=str(shards[0]))).good
    assert ">3 MB<" in models.table(playground)
    shards[1].unlink()
    refused = models.act(playground, "check", "g")
    assert not refused.good
    assert shards[1].name in refused.html


def test_a_model_on_the_hub_is_judged_by_its_config_when_it_is_added(
    playground: Playground, tmp_path: Path, model_files: Any
) -> None:
    hub = playground.hub
    assert isinstance(hub, ListingHub)
    hub.described = model_files.base(tmp_path / "sees", vision_config={"hidden_size": 8})
    assert "3.0 GB" in models.check_form(playground, form(name="sees", source="owner/sees")).html
    done = models.add(playground, form(name="sees", source="owner/sees"))
    assert (done.good, "3.0 GB" in done.html, "uses it for text alone" in done.html) == (True, True, True)
    hub.described = model_files.base(tmp_path / "scores", architectures=["LlamaForSequenceClassification"])
    refused = models.add(playground, form(name="scores", source="owner/scores"))
    assert (refused.good, "reward model" in refused.html) == (False, True)


@pytest.mark.parametrize(
    ("url", "variable", "allowed"),
    [
        ("https://api.example/v1", "ONE_API_KEY", True),
        ("https://API.example/v1", "ONE_API_KEY", True),
        ("https://api.example:8443/v1", "ONE_API_KEY", False),
        ("http://api.example/v1", "ONE_API_KEY", False),
        ("https://evil.example/v1", "ONE_API_KEY", False),
        ("https://api.example/v1", "OTHER_API_KEY", False),
    ],
)
def test_a_page_sends_a_key_only_where_it_went_before(
    playground: Playground, settings: Settings, url: str, variable: str, allowed: bool
) -> None:
    row = variants.Remote(name="known", url="https://api.example/v1", model="m", key_env="ONE_API_KEY")
    variants.add(settings, row)
    said = models.add(playground, form(kind="remote", name="new", url=url, model="m", key_env=variable)).html
    assert (f"No key has gone from {variable}" in said) is not allowed
    assert ("--set key_env=" in said) is not allowed
    assert "new" not in playground.catalogue.names
