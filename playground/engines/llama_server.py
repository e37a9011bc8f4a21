"""From the catalogue to llama.cpp's own server: one GGUF per process, each on a port of its own.

The program is a `llama-server` on PATH (or named), else llama_child.py over the package `xllamacpp`; both take the
options used here. Read from llama.cpp b11549 (October 2026), which xllamacpp 2026.10.11549 carries.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from playground.catalogue import gguf_files, gguf_header
from playground.catalogue.hub import Hub
from playground.catalogue.variants import Catalogue, Gguf, Variant
from playground.engines import plan
from playground.engines.plan import Plan, Wish
from playground.errors import ConfigError
from playground.protocol import DEFAULT_CONTEXT
from playground.settings import unset
from playground.system.progress import Tell
from playground.wording import worded
from playground.workers.loadable import Loader

ENGINE = "llama-server"
CHILD = (sys.executable, "-m", "playground.engines.llama_child")
INSTALL = "`make install EXTRAS=llama-server` adds it, or name a llama-server of your own: --command PATH."
CLOSED = {"LLAMA_ARG_CORS_ORIGINS": "localhost"}
"""Without it llama.cpp lets every web page that is open in a browser on this machine ask the model."""
TEMPLATE = "tokenizer.chat_template"


def make(
    catalogue: Catalogue, hub: Hub, names: list[str], wish: Wish, progress: Tell = lambda done, what: None
) -> list[Plan]:
    """Return one plan for each GGUF, on ports that follow one another. Files on the Hub are fetched first."""
    chosen = [_gguf(catalogue, catalogue.get(name)) for name in names]
    plan.check_ports(wish.settings.port, len(chosen))
    command = plan.program(wish.command, wish.settings.llama_server, "llama-server")
    if command is None and find_spec("xllamacpp"):
        command = CHILD
    loader = Loader(wish.settings, catalogue, hub)
    plans = []
    for port, gguf in enumerate(chosen, start=wish.settings.port):
        spec = loader.loadable(gguf, progress).spec
        words = _arguments(gguf, Path(spec.path), spec.threads, _chat_format(catalogue, gguf, Path(spec.path)), wish)
        plans.append(
            Plan(
                title="llama.cpp's server",
                command=(*(command or ("llama-server",)), *words, "--port", str(port), *wish.flags),
                host=wish.settings.host,
                port=port,
                rows=(plan.row(gguf, ENGINE, wish, port),),
                environment=unset(CLOSED),
                key_variable="LLAMA_API_KEY" if wish.key else None,
                missing="" if command else INSTALL,
            )
        )
    return plans


def _gguf(catalogue: Catalogue, variant: Variant) -> Gguf:
    """Return the variant if it is a GGUF; the ConfigError otherwise names its builds or how to make one."""
    if isinstance(variant, Gguf):
        plan.refuse_fake(variant, "GGUF")
        return variant
    if variant.kind == "remote":
        raise ConfigError(worded("llama_server.server_already", variant=variant.name))
    builds = [v.name for v in catalogue if isinstance(v, Gguf) and v.base == variant.name]
    how = f"madang export {variant.name} --to gguf:q4_k_m" if variant.kind == "adapter" else "madang models add"
    raise ConfigError(
        worded(
            "llama_server.llama_cpp_server",
            variant=variant.name,
            value=variant.kind.replace("adapter", worded("llama_server.an_adapter")),
        ),
        worded("llama_server.serve_build", builds=", ".join(builds))
        if builds
        else worded("llama_server.make_one", how=how),
    )


def _chat_format(catalogue: Catalogue, gguf: Gguf, path: Path) -> str | None:
    """Return the named prompt format of a GGUF; None means the template in the file. Refuses one without either,
    where llama.cpp would guess."""
    named = catalogue.prompt_format(gguf)
    if named is None and not has_template(path):
        raise plan.no_template(gguf)
    return named


def has_template(path: Path) -> bool:
    """Tell whether a GGUF holds a chat template."""
    gguf_files.check(path)
    return bool(gguf_header.read(path).text(TEMPLATE))


def _arguments(gguf: Gguf, path: Path, threads: int, chat: str | None, wish: Wish) -> list[str]:
    """Return every option but the port and the person's own. Each of the parallel answers gets the whole context."""
    context = (gguf.context or DEFAULT_CONTEXT) * wish.parallel
    words = ["--model", str(path), "--alias", gguf.name, "--host", wish.settings.host, "--ctx-size", str(context)]
    words += ["--parallel", str(wish.parallel), "--threads", str(threads), "--jinja", "--metrics"]
    if gguf.gpu_layers != "auto":
        words += ["--n-gpu-layers", str(gguf.gpu_layers)]
    if chat:
        words += ["--chat-template-file", str(plan.template_file(wish.settings, chat))]
    return words
