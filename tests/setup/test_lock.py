"""The dependency files agree with each other and with the README's front matter."""

import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> list[Requirement]:
    """The requirement lines of a file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line[:1].isalnum()]


def applies(marker: Marker | None, python: str, system: str) -> bool:
    """A line holds for a Python and a system."""
    machine = {"linux": "x86_64", "win32": "AMD64", "darwin": "arm64"}[system]
    environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": system}
    return marker is None or marker.evaluate({**environment, "platform_machine": machine})


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once_and_within_its_range(python: str, system: str) -> None:
    locked = [pin for pin in pins("constraints.txt") if applies(pin.marker, python, system)]
    extras = PROJECT["optional-dependencies"].values()
    for text in PROJECT["dependencies"] + [item for extra in extras for item in extra]:
        wanted = Requirement(text)
        if not applies(wanted.marker, python, system):
            continue
        found = [pin for pin in locked if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        assert len(found) == 1, f"{wanted.name}: {[str(pin) for pin in found]}"
        version = str(found[0].specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} against {version}"


def test_the_space_runs_the_versions_that_ci_tests() -> None:
    locked = {str(pin) for pin in pins("constraints.txt")}
    assert {str(pin) for pin in pins("requirements.txt")} <= locked


def test_the_space_finds_wheels_for_torch_and_llama_cpp() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in text
    assert "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu" in text


def test_the_spaces_front_matter_names_the_locked_gradio_and_a_file_that_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.match(r"---\n(.*?)\n---\n", readme, re.S)
    assert block, "README.md has to begin with the Space's front matter"
    fields = dict(re.findall(r"^(\w+): (.+)$", block[1], re.M))
    for name in (
        "title",
        "emoji",
        "colorFrom",
        "colorTo",
        "sdk",
        "sdk_version",
        "python_version",
        "app_file",
        "license",
    ):
        assert name in fields
    gradio = next(pin for pin in pins("requirements.txt") if pin.name == "gradio")
    assert f"=={fields['sdk_version']}" == str(gradio.specifier)
    assert fields["license"] == "apache-2.0"
    assert (ROOT / fields["app_file"]).exists()
