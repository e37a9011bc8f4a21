"""`madang export --push`, from the command line to a Hub in memory: what goes where, what is refused, what goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import ModelCard

import app
from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Base, Catalogue
from playground.errors import ConfigError
from playground.settings import Settings
from tests.eval.runs import make_run
from tests.training.export.conftest import NAME, Verdicts, madang, tree
from tests.training.export.hubs import TOKEN, Hubs, refused
from training.export import exports, hub, plan, pushing
from training.export.card import Score
from training.export.describing import Describer
from training.export.pushing import Push

BASE = "owner/tiny"
PUSH = ("--push", "kim/tuned", "--base", BASE)


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch) -> Hubs:
    """The Hub of this test: it holds the base, and its token may write as kim."""
    made = Hubs(BASE)
    monkeypatch.setattr(hub, "_real_api", lambda: made)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return made


@pytest.fixture
def make(settings: Settings, source: str, played: list[str], verdicts: Verdicts) -> Callable[..., int]:
    """Exports the tiny adapter; the exit code."""
    return lambda *arguments: madang(settings, "export", source, *arguments)


def made(settings: Settings) -> exports.Export:
    (found,) = exports.listed(settings)
    return found


def test_a_repository_a_kind_and_no_ending_twice() -> None:
    wanted = plan.parse("adapter,merged,gguf:q4_k_m,q8_0,gptq")
    repos = {parcel.kind: parcel.repo for parcel in pushing.parcels(Push("kim/x"), wanted)}
    assert repos == {"adapter": "kim/x", "merged": "kim/x-merged", "gguf": "kim/x-GGUF", "gptq": "kim/x-gptq"}
    (only,) = pushing.parcels(Push("kim/x-gguf"), plan.parse("gguf:q4_k_m"))
    assert only.repo == "kim/x-gguf"
    with pytest.raises(ConfigError, match="two kinds of files would go to kim/x-GGUF"):
        pushing.parcels(Push("kim/x-GGUF"), plan.parse("adapter,gguf:q4_k_m"))


def test_everything_goes_up_with_a_card_and_a_base_that_others_find(
    settings: Settings, make: Callable[..., int], hubs: Hubs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("--to", "adapter,merged,gguf:q4_k_m,q8_0", *PUSH) == 0
    said = capsys.readouterr()
    assert "To be pushed to https://huggingface.co/kim/tuned-GGUF (private): Q4_K_M, Q8_0" in said.err
    assert "Pushed: https://huggingface.co/kim/tuned-merged" in said.out
    assert TOKEN not in said.out + said.err
    stem = made(settings).asked().stem
    assert hubs.repos["kim/tuned-GGUF"].held == {
        *(".gitattributes", "README.md", "Modelfile", "Modelfile.Q8_0", f"{stem}-Q4_K_M.gguf", f"{stem}-Q8_0.gguf")
    }
    assert all(repo.private for name, repo in hubs.repos.items())
    up = json.loads(hubs.repos["kim/tuned"].texts["adapter_config.json"])
    here = json.loads((made(settings).folder / "adapter" / "adapter_config.json").read_text())
    assert up == here | {"base_model_name_or_path": BASE}
    assert here["base_model_name_or_path"] != BASE
    for name, kind in (("kim/tuned", "adapter"), ("kim/tuned-merged", "finetune"), ("kim/tuned-GGUF", "quantized")):
        row: Any = ModelCard(hubs.repos[name].texts["README.md"]).data
        assert (row.base_model, row.base_model_relation) == (BASE, kind)
    card = hubs.repos["kim/tuned-GGUF"].texts["README.md"]
    assert "| Q8_0 | pass | - |" in card
    assert "ollama run hf.co/kim/tuned-GGUF:Q4_K_M" in card
    for repo in hubs.repos.values():
        assert str(settings.data) not in "".join(repo.texts.values())


def test_what_is_finished_is_pushed_without_being_built_again(
    settings: Settings, make: Callable[..., int], hubs: Hubs, played: list[str], verdicts: Verdicts
) -> None:
    assert make("--to", "merged,gguf:q4_k_m") == 0
    before, names = tree(made(settings).folder), Catalogue.load(settings).names
    played.clear()
    verdicts.asked.clear()
    assert make("--to", "merged,gguf:q4_k_m", *PUSH) == 0
    assert (played, verdicts.asked) == ([], [])
    assert Catalogue.load(settings).names == names
    assert [row for row in tree(made(settings).folder) if "events" not in row] == [
        r for r in before if "events" not in r
    ]
    assert "model.safetensors" in (hubs.repos["kim/tuned-merged"].held or ())


def test_a_folder_of_ones_own_is_pushed_as_it_is_too(
    make: Callable[..., int], hubs: Hubs, played: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My project\n")
    (tmp_path / "mine" / "other.gguf").write_text("GGUF")
    (tmp_path / "mine" / "LICENSE").write_text("Mine alone.")
    monkeypatch.setattr(Describer, "rights", lambda self: [tmp_path / "LICENSE"])
    (tmp_path / "LICENSE").write_text("The base's.")
    arguments = ("--to", "gguf:q4_k_m", "--out", str(tmp_path / "mine"))
    assert make(*arguments) == 0
    played.clear()
    assert make(*arguments, *PUSH) == 0
    assert played == []
    assert (tmp_path / "mine" / "README.md").read_text() == "# My project\n"
    assert (tmp_path / "mine" / "LICENSE").read_text() == "Mine alone."
    repo = hubs.repos["kim/tuned-GGUF"]
    assert {"LICENSE", "README.md"} < (repo.held or set())
    assert "other.gguf" not in (repo.held or ())
    assert repo.texts["README.md"].startswith("---\n")


def test_what_was_made_without_parity_is_judged_first_but_not_built(
    make: Callable[..., int], hubs: Hubs, played: list[str], verdicts: Verdicts
) -> None:
    assert make("--to", "merged", "--no-parity") == 0
    played.clear()
    verdicts.say["merged"] = "fail"
    assert make("--to", "merged", *PUSH) == 1
    assert played == []
    assert [label for _, label, _ in verdicts.asked] == ["merged"]
    assert set(hubs.repos) == {BASE}


def test_what_failed_parity_stays_here_unless_forced(
    settings: Settings, make: Callable[..., int], hubs: Hubs, verdicts: Verdicts, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts.say["Q4_K_M"] = "fail"
    assert make("--to", "gguf:q4_k_m,q8_0", *PUSH) == 1
    assert "Not pushed, since parity failed: Q4_K_M" in capsys.readouterr().err
    stem = made(settings).asked().stem
    held = hubs.repos["kim/tuned-GGUF"].held or set()
    assert {name for name in held if name.endswith(".gguf") or "Modelfile" in name} == {
        f"{stem}-Q8_0.gguf",
        "Modelfile.Q8_0",
    }
    assert make("--to", "gguf:q4_k_m,q8_0", *PUSH, "--force", "--replace") == 0
    assert f"{stem}-Q4_K_M.gguf" in (hubs.repos["kim/tuned-GGUF"].held or ())
    assert "| Q4_K_M | fail | weights |" in hubs.repos["kim/tuned-GGUF"].texts["README.md"]


def test_a_dropped_connection_leaves_all_whole_and_the_same_command_goes_on(
    settings: Settings,
    make: Callable[..., int],
    hubs: Hubs,
    played: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Hubs.upload_folder

    def drops(self: Hubs, **options: object) -> None:
        if options["repo_id"] == "kim/tuned-merged":
            raise httpx.ReadError(f"Bearer {TOKEN}")
        real(self, **options)

    monkeypatch.setattr(Hubs, "upload_folder", drops)
    assert make("--to", "adapter,merged", *PUSH) == 2
    said = capsys.readouterr()
    assert "broke while kim/tuned-merged was uploaded" in said.err
    assert "the same command goes on" in said.err
    assert TOKEN not in said.out + said.err
    assert made(settings).state().status == "done"
    assert f"{NAME}:merged" in Catalogue.load(settings).names
    assert not [path for path in made(settings).folder.rglob(".push*")]
    monkeypatch.setattr(Hubs, "upload_folder", real)
    played.clear()
    first = hubs.repos["kim/tuned"].options
    assert make("--to", "adapter,merged", *PUSH) == 0
    assert played == []
    assert hubs.repos["kim/tuned"].options is first  # it was there already
    assert "model.safetensors" in (hubs.repos["kim/tuned-merged"].held or ())
    assert make("--to", "adapter,merged", *PUSH) == 0
    assert "pushed there before" in capsys.readouterr().err


def test_where_a_config_was_loaded_from_stays_here(settings: Settings, make: Callable[..., int], hubs: Hubs) -> None:
    assert make("--to", "merged") == 0
    file = made(settings).folder / "merged" / "config.json"
    row = json.loads(file.read_text())
    file.write_text(json.dumps(row | {"_name_or_path": str(Path.home() / "models" / "tiny")}))
    assert make("--to", "merged", *PUSH) == 0
    assert json.loads(hubs.repos["kim/tuned-merged"].texts["config.json"]) == row
    file.write_text(json.dumps(row | {"_name_or_path": BASE}))
    assert make("--to", "merged", *PUSH, "--replace") == 0
    assert json.loads(hubs.repos["kim/tuned-merged"].texts["config.json"])["_name_or_path"] == BASE


@pytest.mark.parametrize("step", ["who", "look"])
def test_a_refused_token_costs_seconds(
    settings: Settings, make: Callable[..., int], hubs: Hubs, played: list[str], step: str
) -> None:
    hubs.fails[step] = refused(401)
    assert make("--to", "merged", *PUSH) == 2
    assert played == []
    assert exports.listed(settings) == []


def test_a_repository_with_files_is_refused_before_the_build_unless_replaced(
    settings: Settings, make: Callable[..., int], hubs: Hubs, played: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hubs.repos |= Hubs("kim/tuned-merged").repos
    assert make("--to", "merged", *PUSH) == 2
    assert "--replace" in capsys.readouterr().err
    assert played == []
    assert make("--to", "merged", *PUSH, "--replace") == 0
    assert "config.json" in (hubs.repos["kim/tuned-merged"].held or ())


def test_public_only_where_asked(make: Callable[..., int], hubs: Hubs) -> None:
    assert make("--to", "merged", *PUSH, "--public") == 0
    assert not hubs.repos["kim/tuned-merged"].private


def test_an_adapter_of_a_base_that_only_this_machine_has(
    make: Callable[..., int], hubs: Hubs, played: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("--to", "adapter,merged", "--push", "kim/tuned") == 2
    error = capsys.readouterr().err
    assert "The adapter's base, tiny, is a folder of this machine" in error
    assert "Publish tiny first, then name it: --base" in error
    assert played == []
    assert make("--to", "merged", "--push", "kim/tuned") == 0  # whole models need no base


def test_a_base_that_the_catalogue_takes_from_the_hub_needs_no_naming(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.export import describing, origin

    found = origin.find(settings, source)
    assert describing.hub_base(found) is None
    online = Base(name="tiny", source=BASE)
    assert (
        describing.hub_base(origin.Origin(found.variant, online, found.adapter_folder, found.base_folder, None)) == BASE
    )
    cached = Path("/x/hub/models--owner--tiny/snapshots/abc")
    assert describing.hub_base(origin.Origin(found.variant, found.base, found.adapter_folder, cached, None)) == BASE
    with pytest.raises(ConfigError, match="is no Hub id"):
        describing.hub_base(found, "tiny")


def test_scores_of_the_build_itself_are_claimed_those_of_the_adapter_only_told(
    settings: Settings, make: Callable[..., int], hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        NAME: Score("kobest_copa", "acc", 0.61, 50, 0, NAME),
        f"{NAME}:Q8_0": Score("kobest_copa", "acc", 0.59, 50, 0, f"{NAME}:Q8_0"),
    }
    monkeypatch.setattr(app, "scores_of", lambda settings, names: [rows[name] for name in names if name in rows])
    assert make("--to", "adapter,merged,gguf:q8_0", *PUSH) == 0
    cards: dict[str, Any] = {
        name: ModelCard(repo.texts["README.md"]) for name, repo in hubs.repos.items() if name != BASE
    }

    def claimed(name: str) -> list[float]:
        return [result.metric_value for result in cards[name].data.eval_results or ()]

    assert (claimed("kim/tuned"), claimed("kim/tuned-merged"), claimed("kim/tuned-GGUF")) == ([0.61], [], [0.59])
    assert "Measured on the adapter" in cards["kim/tuned-merged"].text
    assert "| Q8_0 | kobest_copa | acc | 0.5900 | 50 | 0 |" in cards["kim/tuned-GGUF"].text


def test_a_card_that_its_owner_changed_stays_and_goes_up_as_it_is(
    settings: Settings, make: Callable[..., int], hubs: Hubs
) -> None:
    assert make("--to", "merged") == 0
    card = made(settings).folder / "merged" / "README.md"
    card.write_text(card.read_text().replace("# ", "# My own ", 1))
    mine = card.read_text()
    assert make("--to", "merged", *PUSH) == 0
    assert hubs.repos["kim/tuned-merged"].texts["README.md"] == mine
    assert card.read_text() == mine


def test_the_embedded_adapter_is_named_by_its_own_config(settings: Settings, source: str) -> None:
    variant = Catalogue.load(settings).get(source)
    assert isinstance(variant, Adapter)
    file = variant.path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": BASE}))
    variants.add(settings, variant, replace=True)
    from training.export import describing, origin

    assert describing.hub_base(origin.find(settings, source)) == BASE


def test_scores_come_from_lm_evals_own_files(settings: Settings) -> None:
    assert app.scores_of(settings, ["a"]) == []
    make_run(settings.data / "results", "a", {"kobest_copa": [True, True, False, True]}, shots=5)
    make_run(settings.data / "results", "b", {"kobest_copa": [True]})
    rows = {row.metric: row for row in app.scores_of(settings, ["a", "c"])}
    assert rows["acc"] == Score("kobest_copa", "acc", 0.75, 4, 5, "a")
    (settings.data / "results" / "results_2026-11-24T10-00-00.json").write_text("{")
    assert app.scores_of(settings, ["a"])
