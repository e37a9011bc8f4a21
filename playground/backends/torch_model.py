"""A transformers model and its tokenizer, loaded: its words, which of them end an answer, and what it holds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache
from transformers.convert_slow_tokenizer import bytes_to_unicode

from playground.errors import VariantError
from playground.prompts import end_tokens
from playground.protocol import DEFAULT_CONTEXT, ModelInfo, ModelSpec, Vocabulary
from playground.system.hardware import cpu_has_bf16

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TorchModel:
    """The part of the backend that needs no rows. Raises VariantError where transformers cannot load it."""

    def __init__(self, spec: ModelSpec) -> None:
        torch.set_num_threads(spec.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = _dtype(spec, self._device)
        self._model = _load_model(spec, self._dtype, self._device)
        self._tokenizer = AutoTokenizer.from_pretrained(spec.path, trust_remote_code=False)
        self._pieces = Pieces(self._tokenizer)
        self._ends = _ends(self._model, self._tokenizer)
        self._stateful = _is_stateful(self._model)
        config = self._model.config.get_text_config()
        trained = getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT
        ram, vram = self.memory()
        self.info = ModelInfo(
            dtype="nf4" if spec.load_in_4bit else NAMES[self._dtype],
            device=self._device.type,
            context=min(spec.context or DEFAULT_CONTEXT, trained),
            trained_context=trained,
            vocabulary=config.vocab_size,
            memory_bytes=ram,
            vram_bytes=vram,
        )

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def vocabulary(self) -> Vocabulary:
        tokenizer = self._tokenizer
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return Vocabulary(
            bos=tokenizer.bos_token or "",
            eos=tokenizer.eos_token or "",
            prefix=prefix if prefix is not None else 0,
            eos_id=tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0,
            template=template,
            tokens=tokenizer.special_tokens_map,
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        bos = self._tokenizer.bos_token
        if add_special is None:
            add_special = not (bos and text.startswith(bos))
        return list(self._tokenizer.encode(text, add_special_tokens=add_special))

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def piece(self, token: int) -> bytes:
        return self._pieces.spelled(token)

    def answer_bytes(self, token: int) -> bytes:
        return self._pieces.answer_bytes(token)

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of this process, and the bytes reserved on the card."""
        on_card = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
        return int(psutil.Process().memory_info().rss), int(on_card)

    def close(self) -> None:
        del self._model


class Pieces:
    """The bytes of every token of a tokenizer, found out when they are first asked for.

    The tokenizers library decodes whole texts. Its stream of single tokens raises where a run of byte tokens (`<0xED>`)
    turns out to be no character, and takes the space off an answer's first word; bytes can simply be joined.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.added_tokens_decoder
        self._control = {number for number, token in self._added.items() if token.special}
        self._control |= set(tokenizer.all_special_ids)
        steps = set(_steps(tokenizer))
        self._alphabet = {char: byte for byte, char in bytes_to_unicode().items()} if "ByteLevel" in steps else {}
        self._falls_back = "ByteFallback" in steps
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._known: dict[int, bytes] = {}

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token; a control token gives its name, an id that no word has gives nothing."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._find(token)
        return found

    def answer_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds to an answer: none where it is a control token."""
        return b"" if token in self._control else self.spelled(token)

    def _find(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token]).encode()
        word = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(word, str):
            return b""
        if token in self._control:
            return word.encode()
        if self._alphabet:
            return self._from_letters(word)
        if self._falls_back and (byte := BYTE.fullmatch(word)):
            return bytes([int(byte[1], 16)])
        return self._beside_another(token).encode()

    def _from_letters(self, word: str) -> bytes:
        """Read a byte-level vocabulary, which writes every byte as a letter; other words stand for themselves."""
        if all(char in self._alphabet for char in word):
            return bytes(self._alphabet[char] for char in word)
        return word.encode()

    def _beside_another(self, token: int) -> str:
        """Return what a token adds to a word before it: alone, or first, it would lose its space."""
        before, both = self._decoded(self._before), self._decoded([*self._before, token])
        return both[len(before) :] if both.startswith(before) else self._decoded([token])

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _steps(tokenizer: Any) -> Iterator[str]:
    """Yield the kinds of steps in a tokenizer's decoder; none where it is not of the tokenizers library."""
    raw = getattr(tokenizer, "backend_tokenizer", None)
    waiting = [json.loads(raw.to_str())["decoder"]] if raw is not None else []
    while waiting:
        step = waiting.pop()
        if step is not None:
            yield step["type"]
            waiting += step.get("decoders", [])


def _dtype(spec: ModelSpec, device: torch.device) -> torch.dtype:
    """Return the asked dtype, or bf16 where the hardware computes in it, else fp16 on a card and fp32 on a CPU."""
    if spec.dtype != "auto":
        return DTYPES[spec.dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def _load_model(spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> Any:
    try:
        config = AutoConfig.from_pretrained(spec.path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            spec.path,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            device_map="auto" if device.type == "cuda" else None,
            quantization_config=_nf4(dtype) if spec.load_in_4bit else None,
        )
    except (ValueError, KeyError, OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise VariantError(
            f"transformers cannot load {spec.path}: {reason}",
            "It must be a causal language model that the installed transformers knows.",
        ) from error
    if spec.merged_adapter is not None:
        model = _merged(model, spec.merged_adapter)
    return model.eval().requires_grad_(False)


def _merged(model: Any, folder: str) -> Any:
    """Return the model with an adapter that cannot share weights merged in, by PEFT."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (ValueError, KeyError, RuntimeError) as error:
        raise VariantError(
            f"PEFT cannot load the adapter {Path(folder).name} on this base: {str(error).splitlines()[0][:300]}",
            "Name the base it was trained on in the catalogue.",
        ) from error


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every token that ends an answer: the model's own, the tokenizer's, and those that llama.cpp counts."""
    own = model.generation_config.eos_token_id
    words = tokenizer.get_vocab()
    ends = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    ends |= {words[token] for token in end_tokens(words)}
    return frozenset(token for token in ends if token is not None)


def _is_stateful(model: Any) -> bool:
    """Return whether some layer keeps a running state (Mamba, linear attention), from which no row can be cut."""
    if getattr(model, "_is_stateful", False):
        return True
    layers = DynamicCache(config=model.config).layers
    return any("Linear" in type(layer).__name__ for layer in layers)
