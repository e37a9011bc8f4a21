"""Write docs/settings.md from the fields of playground/settings.py: `make docs`."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from playground.settings import ChildEnvironment, Environment, Settings

FILE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
SETTINGS = """\
# Settings

Written by `make docs` from [playground/settings.py](../playground/settings.py), which alone reads the environment.

Each variable below sets one field of the program. `--data`, `--host` and `--port` come before the variable of the same
name. A value that does not fit is an error that names it.
"""
OTHERS = """
## Variables of other programs

Madang heeds these, too. Every child process gets what torch, Hugging Face's libraries or an engine read for
themselves (`CUDA_VISIBLE_DEVICES`, `HF_HOME`), but no keys: a variable whose name says that it holds one (`…_KEY`,
`…_TOKEN`, `…_SECRET`, `…PASSWORD` and their like, and all of `MADANG_KEY_VARIABLES`), or whose value is an address
with a password, goes to the child alone that needs it. `HF_TOKEN` and proxies go to jobs, which may fetch and push,
and to vLLM where its base is on the Hub; `WANDB_API_KEY` to a trainer that reports there; the key of a remote
variant, which stands in the variable that `key_env` names in its catalogue row, to a benchmark of it. Workers get
none.
"""
CHILDREN = """
## Set by Madang for its own processes

No setting: a process hands them to the ones that it starts. They are listed for whoever reads a log.
"""


def default(field: FieldInfo) -> tuple[str, str]:
    """The default as a person would write it, and the description without it."""
    described, _, words = (field.description or "").partition("; default ")
    value = field.default
    if field.default_factory is not None:
        return "the user's data folder", described
    if words or value in (None, "") or isinstance(value, SecretStr):
        return words or "none", described
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text.lower()}`", described


def table(settings: type[BaseSettings]) -> str:
    """One row for each variable."""
    rows = ["", "| variable | default | what it does |", "|---|---|---|"]
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        value, described = default(field)
        rows.append(f"| `{prefix}{name.upper()}` | {value} | {described} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """The whole file."""
    return SETTINGS + table(Settings) + OTHERS + table(Environment) + CHILDREN + table(ChildEnvironment)


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
