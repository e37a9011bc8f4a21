"""The Train form: its fields, what they begin as, and the recipe that they become. Starts nothing."""

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from playground.catalogue.variants import HUB_ID, Base, load_or_none
from playground.page.form import number, whole
from playground.settings import Settings
from training import recipe as recipes
from training.methods import METHODS
from training.recipe import LORA, TRAINER, Recipe
from training.words import form_error

Form = Mapping[str, Any]
TICKS = ("load_in_4bit", "packing", "kobest", "shorten", "lower_rank")
OF_TRAINER = {
    "learning_rate": "learning_rate",
    "epochs": "num_train_epochs",
    "batch": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "max_length": "max_length",
    "max_steps": "max_steps",
    "save_steps": "save_steps",
}
"""Fields of the form that are TRL's, by our name."""
LEAST = {"rank": 1, "alpha": 1, "batch": 1, "accumulation": 1, "max_length": 16, "max_steps": 1, "save_steps": 1}
EMPTY = (None, "", 0)
"""What an empty field holds."""
HELD_OUT = 0.1
UPLOADS = "uploads"


def defaults(method: str) -> dict[str, Any]:
    """Return what the fields of a method begin as: the guide's values."""
    trainer = TRAINER | METHODS[method].defaults
    return {
        "rank": str(LORA["r"]),
        "alpha": None,
        "learning_rate": f"{trainer['learning_rate']:.0e}".replace("e-0", "e-"),
        "epochs": trainer["num_train_epochs"],
        "max_steps": None,
        "save_steps": None,
        "batch": trainer["per_device_train_batch_size"],
        "accumulation": trainer["gradient_accumulation_steps"],
        "max_length": trainer.get("max_length"),
        "evaluation": HELD_OUT,
        "packing": bool(trainer.get("packing")),
    }


def bases(settings: Settings) -> list[str]:
    """Return the base models of the catalogue; none where it cannot be read."""
    return [variant.name for variant in load_or_none(settings) or () if isinstance(variant, Base)]


def recipe(settings: Settings, form: Form) -> tuple[Recipe, Path]:
    """Return the recipe that the form describes, and the file it is written to; every fault of its fields is raised."""
    row = _row(form)
    path = settings.data / "recipes" / f"{_plain(row['name'])}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_yaml(row), encoding="utf-8")
    made = recipes.load(path, _extra(form))
    if made.reward or METHODS[made.method].rewarded:  # it is code: whoever opens the page could run what they like
        raise form_error("train.rewarded")
    path.write_text(_yaml(made.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    return made, path


def _row(form: Form) -> dict[str, Any]:
    source = str(form["source"] or "").strip()
    if not form["model"]:
        raise form_error("train.no_model")
    if not source:
        raise form_error("train.no_data")
    if not Path(source).expanduser().exists() and not HUB_ID.fullmatch(source):
        raise form_error("train.no_file", path=source)
    data: dict[str, Any] = {"source": source}
    if share := _share(form["evaluation"]):
        data["evaluation"] = share
    if columns := _columns(form):
        data["columns"] = columns
    row: dict[str, Any] = {
        "method": form["method"],
        "model": form["model"],
        "name": str(form["name"] or "").strip() or _named_after(source),
        "data": data,
        "lora": _lora(form),
        "trainer": _trainer(form),
    }
    row |= {name: True for name in ("load_in_4bit", "kobest") if form[name]}
    guards = {name: True for name in ("shorten", "lower_rank") if form[name]}
    return row | ({"guards": guards} if guards else {})


def _columns(form: Form) -> dict[str, str]:
    """Return field -> column, of one `field=column` a line."""
    lines = [line.strip() for line in str(form.get("columns") or "").splitlines() if line.strip()]
    pairs = {line: line.partition("=") for line in lines}
    for line, (field, _, column) in pairs.items():
        if not field.strip() or not column.strip():
            raise form_error("train.column", line=line)
    return {field.strip(): column.strip() for field, _, column in pairs.values()}


def _lora(form: Form) -> dict[str, Any]:
    """Return rank and alpha; alpha is the rank where nothing else is said."""
    made = {"r": _whole("rank", form["rank"])}
    return made if form["alpha"] in EMPTY else made | {"lora_alpha": _whole("alpha", form["alpha"])}


def _trainer(form: Form) -> dict[str, Any]:
    made: dict[str, Any] = {
        "learning_rate": _number("learning_rate", form["learning_rate"]),
        "num_train_epochs": _number("epochs", form["epochs"]),
    }
    made |= {OF_TRAINER[name]: _whole(name, form[name]) for name in ("batch", "accumulation")}
    made |= {name: _whole(name, form[name]) for name in ("max_steps", "save_steps") if form[name] not in EMPTY}
    if form["max_length"] not in EMPTY:
        made["max_length"] = _whole("max_length", form["max_length"])
    elif form["method"] == "cpt":
        made["max_length"] = None  # as long as the data needs, not the method's 4,096
    if not METHODS[form["method"]].compares:
        made["packing"] = bool(form["packing"])
    if made["num_train_epochs"] == int(made["num_train_epochs"]):
        made["num_train_epochs"] = int(made["num_train_epochs"])
    usual = {"packing": False} | TRAINER | METHODS[form["method"]].defaults
    return {name: value for name, value in made.items() if name not in usual or value != usual[name]}


def _number(field: str, value: object) -> float:
    found = number(str(value).replace(",", ""))
    if not 0 < found < float("inf"):
        raise form_error("train.number", field=field, value=value)
    return found


def _whole(field: str, value: object) -> int:
    found = whole(str(value).replace(",", ""), LEAST[field])
    if found is None:
        raise form_error("train.whole", field=field, value=value, least=LEAST[field])
    return found


def _share(value: object) -> float:
    if value in EMPTY:
        return 0.0
    share = _number("evaluation", value)
    if share >= 1:
        raise form_error("train.share", value=value)
    return share


def _extra(form: Form) -> list[str]:
    """Return further fields, one per line, as --set takes them, without empty lines and comments."""
    lines = [line.strip() for line in str(form["extra"] or "").splitlines()]
    lines = [line.removeprefix("--set ").strip() for line in lines if line and not line.startswith("#")]
    for line in lines:
        if not re.match(r"[\w.]+\s*=", line):
            raise form_error("train.line", line=line)
    return lines


def _named_after(source: str) -> str:
    path = Path(source)
    stem = path.stem if path.exists() else source.rpartition("/")[2]
    if path.parent.name == UPLOADS:
        stem = re.sub(r"-[0-9a-f]{8}(-clean)?$", "", stem)
    return _plain(stem).strip("-._") or "mine"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _yaml(row: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(row), allow_unicode=True, sort_keys=False, width=100)
    return text


def kept(settings: Settings, uploaded: str) -> str:
    """Keep an uploaded file under its own name with a hash of its content; return the path."""
    path = Path(uploaded)
    mark = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    target = settings.data / UPLOADS / f"{path.stem}-{mark}{path.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(path, target)
    return str(target)
