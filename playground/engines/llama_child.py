"""llama.cpp's own server over the package `xllamacpp`, as a program: `python -m playground.engines.llama_child`.

Takes the options of `llama-server` that Madang uses. Any other option is a field of xllamacpp's CommonParams, written
with hyphens and followed by its value: `--n-batch 512 --cache-prompt false`. The key comes from LLAMA_API_KEY alone.
"""

import argparse
import sys
import threading
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from playground.errors import ConfigError, MadangError, SetupError, UnknownNameError
from playground.settings import ChildEnvironment
from playground.wording import worded

NO_FLASH = 0
"""llama.cpp's number for attention without it. On a CPU flash attention makes a long conversation's tokens at half the
speed (see playground.backends.llama_cpp)."""
CARDS = {"GPU", "IGPU"}
SWITCHES = {"true": True, "false": False}


def arguments() -> argparse.ArgumentParser:
    """Return a parser of the options, named as llama-server names them."""
    parser = argparse.ArgumentParser(prog="llama_child", description=__doc__, allow_abbrev=False)
    for name in ("--model", "--alias", "--host"):
        parser.add_argument(name, required=True)
    for name in ("--port", "--ctx-size", "--parallel", "--threads"):
        parser.add_argument(name, required=True, type=int)
    parser.add_argument("--n-gpu-layers", type=int)
    parser.add_argument("--chat-template-file", type=Path)
    parser.add_argument("--jinja", action="store_true")
    parser.add_argument("--metrics", action="store_true")
    return parser


def fill(params: Any, words: Sequence[str], on_card: bool = True) -> None:
    """Write the options into xllamacpp's CommonParams. `on_card`: llama.cpp has more than a CPU to compute on."""
    given, rest = arguments().parse_known_args(words)
    params.model.path, params.model_alias = given.model, {given.alias}
    params.hostnames, params.port = [given.host], given.port
    params.n_ctx, params.n_parallel, params.cont_batching = given.ctx_size, given.parallel, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.use_jinja, params.endpoint_metrics, params.ui = given.jinja, given.metrics, False
    if given.n_gpu_layers is not None:
        params.n_gpu_layers = given.n_gpu_layers
    if given.chat_template_file is not None:
        params.chat_template = given.chat_template_file.read_text(encoding="utf-8")
    if not on_card:
        params.flash_attn_type = NO_FLASH
    told = ChildEnvironment()
    params.api_keys = [key for key in [told.llama_api_key] if key]
    params.cors_origins = told.llama_arg_cors_origins
    fill_fields(params, rest)


def fill_fields(params: Any, words: Sequence[str]) -> None:
    """Write `--name value` pairs into the fields of those names, read as the type that each holds now."""
    fields = [name for name in dir(params) if isinstance(getattr(params, name, None), bool | int | float | str)]
    fields = [name for name in fields if not name.startswith("_")]
    if len(words) % 2:
        raise ConfigError(worded("llama_child.no_value", words=words[-1]))
    for flag, value in zip(words[::2], words[1::2], strict=True):
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in fields:
            raise UnknownNameError(worded("noun.field_of_xllamacpp_commonparams"), flag, fields)
        setattr(params, name, _read(flag, value, type(getattr(params, name))))


def _read(flag: str, value: str, kind: type) -> bool | int | float | str:
    try:
        if kind is bool:
            return SWITCHES[value.lower()]
        number: bool | int | float | str = kind(int(value) if issubclass(kind, IntEnum) else value)
    except (KeyError, ValueError) as error:
        raise ConfigError(worded("llama_child.no", flag=flag, value=value, kind=kind.__name__)) from error
    return number


def serve(words: Sequence[str]) -> None:
    """Load the model and answer until the process is ended. `/health` answers 503 while the model loads."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    kinds = {device["type"].name.rpartition("_")[2] for device in xllamacpp.get_device_info()}
    fill(params, words, on_card=bool(kinds & CARDS))
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise SetupError(worded("llama_child.llama_cpp_cannot", path=params.model.path, error=error)) from error
    sys.stderr.write(f"ready at {server.listening_address}\n")
    threading.Event().wait()


def main(words: Sequence[str]) -> int:
    """Run the program; a MadangError becomes two lines and exit code 2."""
    try:
        serve(words)
    except MadangError as error:
        sys.stderr.write(f"hint: {error.hint}\nerror: {error.message}\n")  # the last line is what people are shown
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
