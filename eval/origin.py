"""Say whose results a file of lm-eval holds and how it was run: name, arguments, folder. Reads no file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote

from playground.escape import HALVES

KEEP = " +-.=,()"
SIGNS = {":": "~", "/": "@"}
ESCAPED = {"~": "%7E"} | SIGNS
NAMED = ("peft", "delta", "pretrained", "model", "path", "engine")
"""The arguments that lm-eval names a model by, in its order."""
QUANTIZED = ("load_in_4bit", "load_in_8bit", "gptqmodel", "autogptq", "gguf_file", "quantization")
HOW = re.compile(
    r"batch_size|max_batch_size|device|device_map\w*|parallelize|num_concurrent|max_retries|timeout|eos_string|"
    r"(tensor|data)_parallel_size|gpu_memory_utilization|trust_remote_code|header|.*(key|secret|password)|"
    r"((hf|auth|access|use_auth|api)_)?token"
)
"""Arguments that say how it was computed, not what, and those that are nobody's business."""
LONGEST = 60
"""Characters of an argument in a row's name."""
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Origin:
    """Whose results: `name`, short; `given`, arguments that make rows of their own; `found`, what lm-eval found."""

    name: str
    base: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)


def of(content: Mapping[str, Any], folder: str, own: str | None = None) -> Origin:
    """Return the origin of a file's content; `own`: the variant that our own file beside it names."""
    config = content.get("config") or {}
    arguments = parsed(config.get("model_args"))
    whole = own or _whole(content, arguments) or variant_name(folder)
    name = own or short(whole)
    base = arguments.get("pretrained") if {"peft", "delta"} & arguments.keys() else None
    given = {key: value for key, value in arguments.items() if key not in NAMED and not HOW.fullmatch(key)}
    given |= {"path": whole} if name != whole else {}
    given |= {"pretrained": base} if base else {}
    given |= {key: str(config[key]) for key in ("limit", "gen_kwargs") if config.get(key)}
    given |= {"system": str(system)} if (system := content.get("system_instruction")) else {}
    found = {"backend": config.get("model"), "dtype": config.get("model_dtype"), "sha": config.get("model_sha")}
    found |= {"template": content.get("chat_template_sha"), "seed": config.get("fewshot_seed")}
    found |= {"multiturn": content.get("fewshot_as_multiturn")} if content.get("chat_template") else {}
    told = {key: str(value).removeprefix("torch.") for key, value in found.items() if value not in (None, "")}
    name = name.translate(HALVES)  # the folder's, in another encoding
    return Origin(name, short(base) if base else None, given, told)


def parsed(arguments: str | Mapping[str, Any] | None) -> dict[str, str]:
    """Return lm-eval's `model_args`, a text or a table; a comma without a name behind it belongs to the value."""
    if isinstance(arguments, Mapping):
        return {str(key): _value(str(value)) for key, value in arguments.items() if value is not None}
    found: dict[str, str] = {}
    for part in str(arguments or "").split(","):
        key, is_pair, value = part.partition("=")
        if is_pair and re.fullmatch(r"\s*\w+\s*", key):
            found[last := key.strip()] = value
        elif found:
            found[last] += f",{part}"
    return {key: _value(value) for key, value in found.items()}


def _value(text: str) -> str:
    """Return an argument as lm-eval reads it: truth values in any case; passwords in addresses are nobody's."""
    return text.capitalize() if text.lower() in ("true", "false") else re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _whole(content: Mapping[str, Any], arguments: Mapping[str, str]) -> str:
    given = next((arguments[key] for key in NAMED if arguments.get(key)), "")
    name = str(content.get("model_name") or "")  # cut by lm-eval at a path's first comma
    return given if not name or given.startswith(f"{name},") else name


def short(name: str) -> str:
    r"""Return the last part of a path, of Windows too; `owner/model` is none, but the Hub's name of a model."""
    is_path = re.match(r"[A-Za-z]:[\\/]|[\\/~]|\.{1,2}[\\/]", name) or "\\" in name or name.count("/") > 1
    parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..")]
    return parts[-1] if is_path and parts else name


def differing(origins: Sequence[Origin]) -> list[str]:
    """Return the arguments in which runs of one name differ; what lm-eval found counts only where two found it."""
    given = dict.fromkeys(key for one in origins for key in one.given)
    names = [key for key in given if len({one.given.get(key) for one in origins}) > 1]
    found = dict.fromkeys(key for one in origins for key in one.found if key not in names)
    return names + [key for key in found if len({one.found[key] for one in origins if key in one.found}) > 1]


def told(origin: Origin, names: Iterable[str]) -> Pairs:
    """Return those arguments of a run."""
    values = {**origin.found, **origin.given}
    return tuple((key, values[key]) for key in names if key in values)


def named(variant: str, differs: Pairs) -> str:
    """Return the name of a row: its variant, and what tells it from others of that; hashes and long texts are cut."""
    return variant + "".join(f" · {key}={_cut(key, value)}" for key, value in differs)


def _cut(key: str, value: str) -> str:
    """Return the beginning of a value; of a text with a hash of the whole, which may differ in its end alone."""
    if key in ("sha", "template"):
        return f"{value[:8]}…" if len(value) > 8 else value
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}… {sha256(value.encode()).hexdigest()[:8]}"


def is_quantized(differs: Pairs) -> bool:
    """Return whether what tells a row from others of its name says that its weights were quantized on loading."""
    return any(key in QUANTIZED and value.lower() not in ("false", "none", "0", "") for key, value in differs)


def folder_name(variant: str) -> str:
    """Return the name of the folder for a variant's files, readable and reversible: `:` becomes `~`, `/` becomes `@`.

    lm-eval's `sanitize_model_name`, which would make both `__`, leaves these names as they are.
    """
    name = "".join(ESCAPED.get(sign) or quote(sign, safe=KEEP) if sign.isascii() else sign for sign in variant)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def variant_name(folder: str) -> str:
    """Return the variant whose files a folder holds: `folder_name` backwards."""
    for sign, instead in SIGNS.items():
        folder = folder.replace(instead, sign)
    return unquote(folder)
