"""The catalogue: every fault at once, sources resolved, links held, edits that keep the file."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote
from playground.errors import ConfigError, UnknownNameError, VariantError
from playground.settings import Settings
from tests.stored import stored


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def write(settings: Settings, text: str) -> None:
    settings.catalogue.write_text(text, encoding="utf-8")


def test_built_in_rows_come_first_and_point_into_the_models_folder(settings: Settings) -> None:
    write(settings, '[[variant]]\nname = "mine"\nkind = "base"\nsource = "owner/model"\n')
    catalogue = Catalogue.load(settings)
    assert catalogue.names == ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M", "mine"]
    assert stored(catalogue, "smollm2").path == settings.models_dir / "smollm2"
    assert all(stored(catalogue, name).is_local for name in catalogue.names if name != "mine")


def test_every_fault_is_reported_at_once_with_its_row(settings: Settings) -> None:
    write(
        settings,
        """
        [server]
        [[variant]]
        name = "one"
        kind = "bose"
        source = "a/b"
        [[variant]]
        name = "two"
        kind = "base"
        source = ""
        contxt = 9
        context = 3
        [[variant]]
        kind = "adapter"
        source = "a/b"
        [[variant]]
        name = "-odd"
        kind = "base"
        source = "a/b"
        prompt_format = "alpacca"
        [[variant]]
        name = "twice"
        kind = "base"
        source = "a/b"
        [[variant]]
        name = "twice"
        kind = "base"
        source = "a/c"
        [[variant]]
        name = "lost"
        kind = "adapter"
        base = "twise"
        source = "a/b"
        [[variant]]
        name = "fine"
        kind = "adapter"
        base = "two"
        source = "a/b"
        """,
    )
    with pytest.raises(ConfigError) as caught:
        Catalogue.load(settings)
    message = caught.value.message
    for part in (
        "[server]",
        "variant one: kind",
        "variant two: source = ''",
        "variant two: contxt = 9",
        "variant two: context = 3",
        "variant number 3: name: field required",
        "variant number 3: base: field required",
        "variant -odd: name = '-odd'",
        "variant -odd: prompt_format = 'alpacca': known prompt formats: alpaca",
        "variant twice: the name stands twice",
        "variant lost: base:",
        "twise",
        "Did you mean twice?",
    ):
        assert part in message, part
    assert str(settings.catalogue) in message
    assert "fine" not in message  # its base has faults, and is there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[variant]\n", "not valid TOML"),
        ('variant = ["x", 3]\n', "number 2"),
        ("variant = 3\n", "number 1"),
    ],
)
def test_a_file_of_the_wrong_shape_is_a_fault_and_no_traceback(settings: Settings, text: str, said: str) -> None:
    write(settings, text)
    with pytest.raises(ConfigError, match=said):
        Catalogue.load(settings)


def test_a_catalogue_that_is_a_folder_or_no_utf8(settings: Settings, tmp_path: Path) -> None:
    settings.catalogue.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        Catalogue.load(settings)
    other = Settings(data=tmp_path / "other")
    other.data.mkdir()
    other.catalogue.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        Catalogue.load(other)


def test_an_unknown_name_gets_near_matches(settings: Settings) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Catalogue.load(settings).get("smolm2:demo")
    assert caught.value.near[0] == "smollm2:demo"
    assert "Did you mean smollm2:demo" in caught.value.hint
    assert "madang models" in caught.value.hint


def test_sources_are_paths_or_hub_ids(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (tmp_path / "owner" / "here").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    rows = {
        "hub": ("owner/model", "owner/model"),
        "there": ("owner/here", str(tmp_path / "owner" / "here")),  # a folder beside the file wins
        "dot": ("./owner/model", str(tmp_path / "owner" / "model")),
        "up": ("../x", str(tmp_path.parent / "x")),
        "home": ("~/m", str(home / "m")),
        "models": ("{models}/m", str(settings.models_dir / "m")),
        "absolute": (str(tmp_path / "z"), str(tmp_path / "z")),
        "deep": ("a/b/c", str(tmp_path / "a" / "b" / "c")),
        "file": ("builds/x.gguf", str(tmp_path / "builds" / "x.gguf")),
        "fake": ("fake:x", "fake:x"),
    }
    text = "".join(f"[[variant]]\nname = '{name}'\nkind = 'gguf'\nsource = '{row[0]}'\n" for name, row in rows.items())
    write(settings, text)
    catalogue = Catalogue.load(settings)
    assert {name: stored(catalogue, name).source for name in rows} == {name: row[1] for name, row in rows.items()}
    assert [name for name in rows if not stored(catalogue, name).is_local] == ["hub"]


def test_a_hub_id_does_not_turn_into_a_folder_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not Base(name="x", source="owner/model").is_local


def test_a_relative_data_folder_means_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(data=Path("d"))
    assert stored(Catalogue.load(settings), "smollm2").path == tmp_path / "d" / "models" / "smollm2"


def test_own_rows_override_built_in_ones(settings: Settings) -> None:
    write(settings, '[[variant]]\nname = "smollm2"\nkind = "base"\nsource = "a/b"\ncontext = 128\n')
    catalogue = Catalogue.load(settings)
    assert len(catalogue) == 3
    assert catalogue.get("smollm2").context == 128
    assert catalogue.base_of(catalogue.get("smollm2:demo:Q4_K_M")) == catalogue.get("smollm2")


def test_links_that_cannot_be() -> None:
    base = Base(name="b", source="fake:b")
    adapter = Adapter(name="a", source="fake:a", base="b")
    with pytest.raises(ConfigError, match="adapter needs a base model, and 'a' is none"):
        Catalogue([base, adapter, Adapter(name="c", source="fake:c", base="a")])
    with pytest.raises(ConfigError, match="g1: base: it descends from itself"):
        Catalogue([Gguf(name="g1", source="x", base="g2"), Gguf(name="g2", source="x", base="g1")])
    with pytest.raises(ConfigError, match="'nobody'"):
        Catalogue([base]).with_variant(Gguf(name="g", source="x", base="nobody"))


def test_the_prompt_format_comes_down_the_line() -> None:
    base = Base(name="b", source="fake:b", prompt_format="alpaca")
    adapter = Adapter(name="a", source="fake:a", base="b")
    gguf = Gguf(name="g", source="fake:g", base="a")
    catalogue = Catalogue([base, adapter, gguf, Gguf(name="alone", source="fake:x")])
    assert catalogue.prompt_format(gguf) == "alpaca"
    assert catalogue.base_of(gguf) == base
    assert catalogue.prompt_format(catalogue.get("alone")) is None
    own = catalogue.with_variant(adapter.model_copy(update={"prompt_format": "chatml"}))
    assert own.prompt_format(gguf) == "chatml"
    assert catalogue.prompt_format(adapter) == "alpaca"  # the first catalogue is as it was


OWN = """\
# my models

[[variant]]
name = "one"          # the first
kind = "base"
source = "a/b"

# the second is small
[[variant]]
name = "two"
kind = "gguf"
source = "a/c"
base = "one"
# the end
"""


def test_adding_and_removing_keep_every_other_line(settings: Settings) -> None:
    write(settings, OWN)
    variants.add(settings, Base(name="three", source="a/d", prompt_format="alpaca"))
    text = settings.catalogue.read_text(encoding="utf-8")
    assert text.startswith(OWN)
    assert text[len(OWN) :] == (
        '\n[[variant]]\nname = "three"\nkind = "base"\nsource = "a/d"\nprompt_format = "alpaca"\n'
    )
    variants.remove(settings, "two")
    left = settings.catalogue.read_text(encoding="utf-8")
    assert [line for line in OWN.splitlines() if line.startswith("#")] == [
        line for line in left.splitlines() if line.startswith("#")
    ]
    assert "# the first" in left
    assert [variant.name for variant in variants.read(settings.catalogue, settings)] == ["one", "three"]
    assert sorted(path.name for path in settings.data.iterdir()) == [".variants.toml.lock", "variants.toml"]


def test_replacing_is_asked_for(settings: Settings) -> None:
    write(settings, OWN)
    with pytest.raises(VariantError, match="'one' already"):
        variants.add(settings, Base(name="one", source="x/y"))
    with pytest.raises(VariantError, match="'smollm2' already"):
        variants.add(settings, Base(name="smollm2", source="x/y"))
    assert settings.catalogue.read_text(encoding="utf-8") == OWN
    variants.add(settings, Base(name="one", source="x/y"), replace=True)
    assert stored(Catalogue.load(settings), "one").source == "x/y"
    assert len(variants.read(settings.catalogue, settings)) == 2


def test_the_first_variant_makes_the_file_and_its_folder(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "new" / "folder")
    variants.add(settings, Gguf(name="작은:모델", source="/models/x.gguf", gpu_layers=3))
    assert Catalogue.load(settings).get("작은:모델") == Gguf(name="작은:모델", source="/models/x.gguf", gpu_layers=3)


def test_an_edit_that_fails_leaves_the_file_as_it_was(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, OWN)
    with pytest.raises(ConfigError):
        variants.add(settings, Adapter(name="x", source="a/b", base="nobody"))

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        variants.add(settings, Base(name="x", source="a/b"))
    assert settings.catalogue.read_text(encoding="utf-8") == OWN


def test_two_programs_that_add_and_remove_at_once_lose_no_row(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from playground.catalogue import variants
from playground.settings import Settings
from playground.catalogue.variants import Catalogue, Remote
settings = Settings(data=Path(sys.argv[1]))
for number in range(30):
    row = Remote(name=f"{sys.argv[2]}-{number}", url="http://127.0.0.1:1/v1")
    variants.add(settings, row)
    assert row.name in Catalogue.load(settings).names, row.name
    if number % 2:
        variants.remove(settings, row.name)
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen([*words, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    rows = [variant.name for variant in Catalogue.load(Settings(data=tmp_path)) if variant.kind == "remote"]
    assert sorted(rows) == sorted(f"{name}-{number}" for name in "ab" for number in range(0, 30, 2))


def test_a_catalogue_that_is_locked_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.catalogue.variants.LOCK_S", 0.1)
    lock = FileLock(settings.catalogue.with_name(f".{settings.catalogue.name}.lock"))
    with lock, pytest.raises(ConfigError, match="is being changed by another program"):
        variants.add(settings, Remote(name="far", url="http://127.0.0.1:1/v1"))
    variants.add(settings, Remote(name="far", url="http://127.0.0.1:1/v1"))


def test_what_cannot_be_removed(settings: Settings) -> None:
    write(settings, OWN)
    with pytest.raises(VariantError, match="two still build on 'one'"):
        variants.remove(settings, "one")
    with pytest.raises(VariantError, match="built in"):
        variants.remove(settings, "smollm2")
    with pytest.raises(UnknownNameError):
        variants.remove(settings, "oen")
    assert settings.catalogue.read_text(encoding="utf-8") == OWN


def test_an_overridden_built_in_comes_back(settings: Settings) -> None:
    variants.add(settings, Base(name="smollm2", source="a/b"), replace=True)
    variants.add(settings, Adapter(name="mine", source="a/c", base="smollm2"))
    variants.remove(settings, "smollm2")
    assert stored(Catalogue.load(settings), "smollm2").path == settings.models_dir / "smollm2"


def test_a_file_that_cannot_be_edited_row_by_row_says_so(settings: Settings) -> None:
    write(settings, 'variant = [{name = "x", kind = "base", source = "a/b"}]\n')
    assert "x" in Catalogue.load(settings).names
    with pytest.raises(ConfigError, match="cannot be edited"):
        variants.remove(settings, "x")
    with pytest.raises(ConfigError, match="cannot be edited"):
        variants.add(settings, Base(name="y", source="a/b"))


def test_names_and_single_rows() -> None:
    for name in ("a\n", "a b", "", ":x", "a[b]"):
        with pytest.raises(ConfigError, match="name"):
            variants.parse({"name": name, "kind": "base", "source": "a/b"}, "the new variant")
    with pytest.raises(ConfigError, match="load_in_4bit.*gpu_layers"):
        variants.parse(
            {"name": "x", "kind": "base", "source": "a/b", "load_in_4bit": "perhaps", "gpu_layers": 3}, "the row"
        )


def test_a_fake_is_told_by_its_source_alone_and_counts_as_local() -> None:
    fake, real, far = (Base(name="a", source=source) for source in ("fake:kind/x", "/models/fake:x", "owner/fake"))
    assert [variant.is_fake for variant in (fake, real, far)] == [True, False, False]
    assert [variant.is_local for variant in (fake, real, far)] == [True, True, False]
