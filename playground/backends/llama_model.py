"""A GGUF file loaded by llama.cpp, and what it says of itself."""

import ctypes
import os
import sys

import llama_cpp.llama_cpp as lib
import psutil

from playground.backends.llama_tokenizer import LlamaTokenizer
from playground.errors import VariantError
from playground.protocol import DEFAULT_CONTEXT, ModelInfo, ModelSpec
from playground.wording import worded

ALL_LAYERS = 10_000
ERROR_LEVEL = 4
QUANT_SIZES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L"}


UNKNOWN = ("unknown model architecture", "unknown pre-tokenizer", "unknown tokenizer")
"""What llama.cpp says of files that are newer than it is."""
NEWER = "llama_model.newer"


class _Log:
    """llama.cpp's error lines. C keeps calling the function for as long as the process lives, so it is never freed."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._callback = lib.llama_log_callback(self._take)

    def listen(self) -> list[str]:
        """Return the list that the next error lines are added to, empty now."""
        self._lines = []
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self._lines

    def _take(self, level: int, text: bytes, data: object) -> None:
        line = text.decode(errors="replace").strip()
        if level >= ERROR_LEVEL and line:
            self._lines.append(line)
            del self._lines[:-10]
            sys.stderr.write(line + "\n")


LOG = _Log()


class LlamaModel:
    """The part of the backend that needs no context. Raises VariantError with llama.cpp's own reason."""

    def __init__(self, spec: ModelSpec) -> None:
        self._errors = LOG.listen()
        lib.llama_backend_init()
        offloads = bool(lib.llama_supports_gpu_offload())
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0 if not offloads else ALL_LAYERS if spec.gpu_layers == "auto" else spec.gpu_layers
        self._model = lib.llama_model_load_from_file(os.fsencode(spec.path), params)
        if not self._model:
            reason = self._errors[0] if self._errors else worded("llama_model.no_reason")
            hint = worded(NEWER) if any(word in reason for word in UNKNOWN) else worded("llama_model.again")
            raise VariantError(worded("llama_model.llama_cpp_cannot", path=spec.path, reason=reason), hint)
        self._on_card = offloads and spec.gpu_layers != 0
        stateful = lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        self._stateful = bool(stateful)
        """Whether a state goes with a sequence, which no part of a prompt can be cut from."""
        self._tokenizer = LlamaTokenizer(self._model)
        self.info = self._describe(spec)

    def _describe(self, spec: ModelSpec) -> ModelInfo:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self._model, buffer, 256)
        words = buffer.value.decode(errors="replace")
        for long, short in QUANT_SIZES.items():
            words = words.replace(long, short)
        trained = lib.llama_model_n_ctx_train(self._model)
        context = min(spec.context or DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)
        return ModelInfo(
            dtype=words.split()[-1],
            device="cuda" if self._on_card else "cpu",
            context=context,
            trained_context=trained or context,
            vocabulary=self._tokenizer.size,
            memory_bytes=int(psutil.Process().memory_info().rss),
            vram_bytes=int(lib.llama_model_size(self._model)) if self._on_card else 0,
        )

    def tokenizer(self, adapter: str | None = None) -> LlamaTokenizer:
        return self._tokenizer

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of this process, and the bytes of weights on the card."""
        return int(psutil.Process().memory_info().rss), self.info.vram_bytes
