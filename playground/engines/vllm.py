"""From the catalogue to `vllm serve`: a base and its adapters as LoRA modules, and what vLLM cannot serve, with why.

Options and limits read from the sources and docs of vLLM 0.33.0 (November 2026): `vllm/engine/arg_utils.py`,
`vllm/entrypoints/common/cli_args.py`, `vllm/config/lora.py`, `vllm/lora/peft_helper.py`. bitsandbytes left vLLM's own
package before that: it is the plugin `vllm-bnb-plugin`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from playground.catalogue import adapters, files, quantized
from playground.catalogue.adapters import AdapterFiles, folder_template
from playground.catalogue.hub import Hub
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote
from playground.engines import plan
from playground.engines.plan import Plan, Wish
from playground.errors import ConfigError, VariantError
from playground.settings import ONLINE, unset
from playground.wording import worded

ENGINE = "vllm"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank takes."""
DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
ONE_FOR_ALL = ("rank_pattern", "alpha_pattern")
"""Options that vLLM leaves unread."""
MAX_LORAS = 8
"""Adapters in one batch, at most: each takes the room of the largest rank on the card."""
QUIET = {"DO_NOT_TRACK": "1"}
"""vLLM reports its use to its makers otherwise; nothing that Madang starts does."""
CLOSED = ("--allowed-origins", "[]")
"""Without it vLLM lets every web page that is open in a browser on this machine ask the model."""
TOLD = ("--enable-tokenizer-info-endpoint",)
"""Prompts in a named format are rendered here, and only this page tells the token that ends a turn in them."""
ON_CPU = "device_config=cpu"
"""What vLLM's log says where it computes on a CPU. There its LoRA operations take the index of a request without an
adapter (-1) for the last adapter: the base answers with an adapter's weights, and prompts' log-probabilities end the
engine. Seen with 0.32.0 (November 2026); vllm-project/vllm, pull request 48421."""
MERGE = "Merge it into its base and serve that: madang export {name} --to merged"


@dataclass(frozen=True)
class _Lora:
    """An adapter that vLLM can serve, its folder on this machine and its largest rank."""

    adapter: Adapter
    folder: Path
    rank: int


def make(catalogue: Catalogue, hub: Hub, names: list[str], wish: Wish) -> tuple[Plan, list[str]]:
    """Return the plan for one base with adapters, and a sentence for each adapter that is left out.

    Naming the base takes all of its adapters along; named adapters must be servable.
    """
    base, named, along = _chosen(catalogue, names, wish.adapters)
    folder = _folder(base)
    quantization = _quantization(base, folder)
    chat = _chat_format(catalogue, base, folder, [*named, *along])
    loras = [_lora(catalogue, hub, base, adapter, chat) for adapter in named]
    left: list[str] = []
    for adapter in along:
        try:
            loras.append(_lora(catalogue, hub, base, adapter, chat))
        except VariantError as error:
            left.append(worded("vllm.left_out", name=adapter.name, message=error.message, hint=error.hint))
    command = plan.program(wish.command, wish.settings.vllm, "vllm")
    served = [base, *(lora.adapter for lora in loras)]
    return Plan(
        title="vLLM",
        command=(*(command or ("vllm",)), *_arguments(base, loras, quantization, chat, wish), *wish.flags),
        host=wish.settings.host,
        port=wish.settings.port,
        rows=tuple(plan.row(variant, ENGINE, wish, wish.settings.port) for variant in served),
        environment=unset(QUIET),
        key_variable="VLLM_API_KEY" if wish.key else None,
        keys=() if base.is_local else ONLINE,
        missing="" if command else _install(quantization),
        wrong={ON_CPU: _mixed_up(base)} if loras else {},
    ), left


def _install(quantization: str | None) -> str:
    plugin = " --with vllm-bnb-plugin" if quantization == "bitsandbytes" else ""
    return f"Install it in an environment of its own: uv tool install vllm{plugin} (or name it: --command PATH)."


def _mixed_up(base: Base) -> VariantError:
    return VariantError(
        worded("vllm.vllm_computes_cpu", base=base.name),
    )


def _chosen(catalogue: Catalogue, names: list[str], with_adapters: bool) -> tuple[Base, list[Adapter], list[Adapter]]:
    """Return the one base, the adapters that were named, and those that come along because the base was named."""
    named: list[Adapter] = []
    bases: dict[str, Base] = {}
    for name in names:
        variant = catalogue.get(name)
        _check_kind(variant)
        base = catalogue.base_of(variant)
        assert base is not None  # the catalogue holds no adapter without one
        bases[base.name] = base
        if isinstance(variant, Adapter):
            named.append(variant)
    if len(bases) != 1:
        raise ConfigError(
            worded("vllm.vllm_serves_one", bases_count=len(bases), bases=", ".join(bases)),
        )
    (base,) = bases.values()
    family = [v for v in catalogue if isinstance(v, Adapter) and v.base == base.name and v not in named]
    return base, named, family if with_adapters and base.name in names else []


def _check_kind(variant: Base | Adapter | Gguf | Remote) -> None:
    if isinstance(variant, Remote):
        raise ConfigError(worded("vllm.server_already", variant=variant.name, url=variant.url))
    if isinstance(variant, Gguf):
        raise ConfigError(
            worded("vllm.gguf_vllm_itself", variant=variant.name),
        )
    plan.refuse_fake(variant, "model")


def _folder(base: Base) -> Path | None:
    """Return the base's folder where it is on this machine; None: vLLM fetches it from the Hub."""
    if not base.is_local:
        return None
    files.check_base(base.path)
    return base.path


def _quantization(base: Base, folder: Path | None) -> str | None:
    """Return the value of --quantization; None where weights are not quantized, or vLLM sees by itself how they are."""
    method = quantized.method(files.read_json(folder / "config.json")) if folder else ""
    if base.load_in_4bit:
        quantized.not_twice(base.name, method)
    if base.load_in_4bit or method == "bitsandbytes":
        return "bitsandbytes"
    return method if method == "compressed-tensors" else None


def _lora(catalogue: Catalogue, hub: Hub, base: Base, adapter: Adapter, chat: str | None) -> _Lora:
    """Fetch and check an adapter; the VariantError says what vLLM lacks and what to do instead."""
    plan.refuse_fake(adapter, "adapter")
    folder = adapter.path
    if not adapter.is_local:
        folder = hub.fetch_folder(adapter.source, adapter.revision, lambda done, what: None)
    found = adapters.read(folder, base.path if base.is_local else None)
    rank, wanted = max(found.ranks), catalogue.prompt_format(adapter, folder)
    why, remedy = _beyond(found, rank), MERGE.format(name=adapter.name)
    if not why and wanted != chat:
        asked = f"is asked in the format {wanted}" if wanted else "follows its base's own template"
        why = f"it {asked}, and the server's one chat template is {chat or 'that of the base'}"
    if not why and not wanted and _brings_template(found, base):
        why = "it brings a chat template of its own, and the server's one is that of the base"
    if not why and base.dtype == "fp32":
        why, remedy = "its base runs in fp32", f'Let {base.name} run in 16 bits: dtype = "bf16" in its catalogue row.'
    if why:
        raise VariantError(worded("vllm.vllm_cannot_serve", adapter=adapter.name, why=why), remedy)
    return _Lora(adapter, folder, rank)


def _brings_template(adapter: AdapterFiles, base: Base) -> bool:
    """Return whether an adapter is asked in another template than its base, where the base is known here."""
    own = folder_template(base.path) if base.is_local else None
    return own is not None and adapter.template not in (None, own)


def _beyond(adapter: AdapterFiles, rank: int) -> str:
    """Return why vLLM cannot serve an adapter, as the rest of a sentence; empty where it can."""
    if adapter.beyond_plain:
        return adapter.beyond_plain
    if option := next((option for option in ONE_FOR_ALL if adapter.config.get(option)), ""):
        return f"its layers differ in rank or scale ({option}), and vLLM reads one for all"
    return f"its rank is {rank}, and {RANKS[-1]} is the largest" if rank > RANKS[-1] else ""


def _chat_format(catalogue: Catalogue, base: Base, folder: Path | None, adapters: list[Adapter]) -> str | None:
    """Return the named prompt format of the whole server; None means the model's own template.

    vLLM has one chat template per server. A base that is not known to have one follows the first of its adapters.
    """
    if base.prompt_format or (folder and folder_template(folder) is not None):
        return base.prompt_format
    chosen = next((wanted for wanted in map(catalogue.prompt_format, adapters) if wanted), None)
    if chosen is None and folder is not None:
        raise plan.no_template(base)
    return chosen


def _arguments(base: Base, loras: list[_Lora], quantization: str | None, chat: str | None, wish: Wish) -> list[str]:
    """Return everything after `vllm` but the person's own flags, which come last and so win."""
    words = ["serve", base.source, "--served-model-name", base.name]
    if not base.is_local and base.revision:
        words += ["--revision", base.revision, "--tokenizer-revision", base.revision]
    words += ["--host", wish.settings.host, "--port", str(wish.settings.port), "--dtype", DTYPES[base.dtype]]
    words += ["--max-model-len", str(base.context or "auto"), *CLOSED]
    if quantization:
        words += ["--quantization", quantization]
    if chat:
        words += ["--chat-template", str(plan.template_file(wish.settings, chat)), *TOLD]
    if loras:
        rank = next(allowed for allowed in RANKS if allowed >= max(lora.rank for lora in loras))
        words += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(min(len(loras), MAX_LORAS))]
        words += ["--lora-modules", *(_module(lora) for lora in loras)]
    return words


def _module(lora: _Lora) -> str:
    """Return `name=path`, or JSON where the path holds a comma: vLLM takes that for JSON."""
    if "," in str(lora.folder):
        return json.dumps({"name": lora.adapter.name, "path": str(lora.folder)}, ensure_ascii=False)
    return f"{lora.adapter.name}={lora.folder}"
