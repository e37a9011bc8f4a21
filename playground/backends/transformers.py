"""Base models and their adapters through transformers: one set of weights, every row decoded in one batch.

transformers brings the model and its tokenizer; the decode loop is ours, because `generate` knows one sampling setting,
one stop and one padded history for a whole batch. Here each row has its own sampler, generator, history and adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache

from playground.backends import echo
from playground.backends.kv import RowsCache
from playground.backends.likely import held
from playground.backends.lora import Adapters
from playground.backends.pieces import Pieces
from playground.backends.sampling import Sampler
from playground.backends.text import ByteText
from playground.backends.tree import scorer
from playground.errors import VariantError
from playground.events import TokenLogprob
from playground.presets import Sampling
from playground.prompts import end_tokens
from playground.protocol import (
    DEFAULT_CONTEXT,
    Cancelled,
    Choices,
    ModelInfo,
    ModelSpec,
    Pause,
    PromptToken,
    Row,
    RowRequest,
    Scored,
    Vocabulary,
)
from playground.system.hardware import cpu_has_bf16

if TYPE_CHECKING:
    import numpy as np

CHUNK = 512
WHOLE_BATCH = 1 << 30
CPU_ROWS, CARD_ROWS = 32, 128
"""Answers in one batch at most: each holds a cache of its own."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(eq=False)
class TorchRow(Row):
    """A row with its sampler, its place in a cache, and the logits of its newest token."""

    sampler: Sampler | None = None
    cache: Any = None
    index: int = 0
    logits: torch.Tensor | None = None
    decoder: ByteText = field(default_factory=ByteText)

    @property
    def adapter(self) -> str:
        """The folder of its adapter; empty for the base. Rows sort by it."""
        return self.request.adapter or ""


class TransformersBackend:
    """Speaks the Backend protocol over one causal language model and the adapters attached to it."""

    def __init__(self, spec: ModelSpec) -> None:
        torch.set_num_threads(spec.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = _dtype(spec, device)
        self._model = _load_model(spec, self._dtype, device)
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(spec.path, trust_remote_code=False)
        self._pieces = Pieces(self._tokenizer)
        self._ends = _ends(self._model, self._tokenizer)
        self._stateful = _is_stateful(self._model)
        self._adapters = Adapters(self._model, self._dtype)
        self._scorer = scorer(self._model, device, self._stateful)
        self._watch_cancels()
        self._reading: TorchRow | None = None
        self._rows = 0
        self._scoring = False
        self.pause = Pause()
        self.max_rows = CARD_ROWS if device.type == "cuda" else CPU_ROWS
        trained = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or DEFAULT_CONTEXT
        ram, vram = self.memory()
        self.info = ModelInfo(
            dtype="nf4" if spec.load_in_4bit else NAMES[self._dtype],
            device=device.type,
            context=min(spec.context or DEFAULT_CONTEXT, trained),
            trained_context=trained,
            vocabulary=self._model.config.get_text_config().vocab_size,
            memory_bytes=ram,
            vram_bytes=vram,
        )

    def use_threads(self, threads: int) -> None:
        """Compute with so many CPU threads from now on."""
        torch.set_num_threads(threads)

    def vocabulary(self) -> Vocabulary:
        """Special tokens and chat template, as the tokenizer names them."""
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
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        """Token ids, control tokens parsed; None adds BOS where the tokenizer does by itself, but never a second."""
        bos = self._tokenizer.bos_token
        if add_special is None:
            add_special = not (bos and text.startswith(bos))
        return list(self._tokenizer.encode(text, add_special_tokens=add_special))

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score choices in as few passes as their lengths allow."""
        with self._computing(adapter):
            return self._scorer.score(questions)

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Log-probabilities [tokens, vocabulary] of what follows each token."""
        self.pause()
        with self._computing(adapter), torch.inference_mode():
            self._use(adapter)
            logits = self._model(input_ids=torch.tensor([list(ids)], device=self._device), use_cache=False).logits[0]
            return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Every token of every prompt; what prompts begin with alike is computed once where the model allows it."""
        room = echo.Room(self._scorer.longest, len(prompts), self._scorer.budget)
        with self._computing(adapter):
            return echo.prompt_logprobs(prompts, room, partial(self._scorer.read, top=top), self.piece)

    @contextmanager
    def _computing(self, adapter: str | None) -> Iterator[None]:
        """A call with an adapter or none: rows that go on in its pauses leave theirs behind."""

        def pause() -> None:
            self._scoring = False
            self.pause()
            self._scoring = True
            self._use(adapter)

        self._scorer.pause_by(pause)
        self._scoring = True
        try:
            yield
        finally:
            self._scoring = False

    def _use(self, adapter: str | None) -> None:
        """Have the next passes run with an adapter on all rows, or with none."""
        if adapter:
            self._adapters.attach(adapter)
        self._adapters.routing.slices = [(0, WHOLE_BATCH, adapter)] if adapter else []

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        """Caches grow as needed, up to a number of rows."""
        return self._rows < self.max_rows

    def open(self, request: RowRequest, prompt: list[int]) -> TorchRow:
        """A row with an empty cache of its own; its adapter is attached first where it is new."""
        if request.adapter:
            self._adapters.attach(request.adapter)
        sampler = Sampler(request.sampling, prompt, self._device)
        self._rows += 1
        return TorchRow(request, prompt, sampler=sampler, cache=self._empty_cache())

    def _empty_cache(self) -> Any:
        return DynamicCache(config=self._model.config) if self._stateful else RowsCache()

    def prefill(self, row: Row) -> bool:
        """Read the next 512 prompt tokens of a row, alone; a cancel stops the model between two layers."""
        assert isinstance(row, TorchRow)
        size = len(row.prompt) if self._stateful else CHUNK
        chunk = row.prompt[row.read : row.read + size]
        self._adapters.routing.route([row.request.adapter])
        positions = torch.arange(row.read, row.read + len(chunk), device=self._device)
        self._reading = row
        logits = self._forward([chunk], positions[None], row.cache, None)
        self._reading = None
        row.read += len(chunk)
        row.logits = logits[0]
        return row.read == len(row.prompt)

    def sample(self, row: Row) -> int:
        """Draw from the row's own distribution with its own generator."""
        assert isinstance(row, TorchRow)
        assert row.sampler is not None
        assert row.logits is not None
        return row.sampler.draw(row.logits)

    def decode(self, rows: Sequence[Row]) -> None:
        """One token of every row; rows with equal adapters stand together, and share the base's pass."""
        ordered = sorted((row for row in rows if isinstance(row, TorchRow)), key=lambda row: row.adapter)
        if self._stateful:
            for row in ordered:
                self._decode_batch([row], row.cache)
            return
        self._decode_batch(ordered, self._joined(ordered))

    def _decode_batch(self, rows: list[TorchRow], cache: Any) -> None:
        self._adapters.routing.route([row.request.adapter for row in rows])
        lengths = [len(row.prompt) + len(row.tokens) - 1 for row in rows]
        positions = torch.tensor(lengths, device=self._device)[:, None]
        mask = cache.visible(1, self._device) if isinstance(cache, RowsCache) else None
        logits = self._forward([row.tokens[-1:] for row in rows], positions, cache, mask)
        for index, row in enumerate(rows):
            row.logits = logits[index]

    def _joined(self, rows: list[TorchRow]) -> RowsCache:
        """The rows' common cache: the one they share already, or a new one when a row came or left."""
        cache = rows[0].cache
        in_place = all(row.cache is cache and row.index == index for index, row in enumerate(rows))
        if in_place and len(cache.starts) == len(rows):
            return cache  # type: ignore[no-any-return]
        cache = RowsCache.joined([(row.cache, row.index) for row in rows])
        for index, row in enumerate(rows):
            row.cache, row.index = cache, index
        return cache

    def _forward(
        self, ids: list[list[int]], positions: torch.Tensor, cache: Any, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] of the last token of every row."""
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _watch_cancels(self) -> None:
        """Let a cancelled row leave a long prompt, or a call that is given up its batch, between two layers."""

        def look(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            row = self._reading
            if row is not None and row.cancelled():
                self._reading = None
                raise Cancelled
            if self._scoring and self.pause.given_up():
                raise Cancelled

        for layer in _decoder_layers(self._model):
            layer.register_forward_pre_hook(look)

    def likely(self, row: Row, token: int) -> TokenLogprob:
        """From the logits that the token was drawn from; they stay until the next step."""
        assert isinstance(row, TorchRow)
        assert row.logits is not None
        return held(row.logits.float().cpu().numpy(), token, row.request.top_logprobs or 0, self.piece)

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""
        return token in self._ends

    def piece(self, token: int) -> bytes:
        """The bytes of a token; a control token's name."""
        return self._pieces.spelled(token)

    def text(self, row: Row, token: int) -> str:
        """The characters that this token completes; control tokens read as nothing."""
        assert isinstance(row, TorchRow)
        return row.decoder.feed(self._pieces.said(token))

    def close_row(self, row: Row) -> None:
        """Let go of the row's cache."""
        assert isinstance(row, TorchRow)
        self._rows -= 1
        row.cache = row.logits = None

    def memory(self) -> tuple[int, int]:
        """Resident bytes of this process, and bytes reserved on the card."""
        on_card = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
        return int(psutil.Process().memory_info().rss), int(on_card)

    def close(self) -> None:
        """Let go of the model."""
        del self._model


def _dtype(spec: ModelSpec, device: torch.device) -> torch.dtype:
    """The asked dtype, or bf16 where the hardware computes in it, else fp16 on a card and fp32 on a CPU."""
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
    """The model with an adapter that cannot share weights merged in, through PEFT."""
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
    """Whether some layer keeps a running state (Mamba, linear attention), which rows of a batch cannot be cut from."""
    if getattr(model, "_is_stateful", False):
        return True
    layers = DynamicCache(config=model.config).layers
    return any("Linear" in type(layer).__name__ for layer in layers)


def _decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The model's repeated blocks: the longest list of modules in it."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])
