"""A GGUF file loaded by llama.cpp, its words, and what it says of itself."""

import ctypes
import os
import sys

import llama_cpp.llama_cpp as lib
import psutil

from playground.errors import VariantError
from playground.protocol import DEFAULT_CONTEXT, ModelInfo, ModelSpec, Vocabulary

ALL_LAYERS = 10_000
ERROR_LEVEL = 4
NAMED = {"unk": "unknown", "pad": "padding", "sep": "seperator", "cls": "cls", "mask": "mask"}
"""Special tokens beside BOS and EOS as templates call them -> as the metadata does, in its own spelling."""
QUANT_SIZES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L"}


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
            reason = self._errors[0] if self._errors else "llama.cpp gave no reason"
            raise VariantError(f"llama.cpp cannot load {spec.path}: {reason}.", "Download or export the file again.")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._on_card = offloads and spec.gpu_layers != 0
        stateful = lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        self._stateful = bool(stateful)
        """Whether a state goes with a sequence, which no part of a prompt can be cut from."""
        self._template = (lib.llama_model_chat_template(self._model, None) or b"").decode(errors="replace")
        self._bos = self._special(lib.llama_vocab_bos(self._vocab))
        self._eos = self._special(lib.llama_vocab_eos(self._vocab))
        self._tokens = {f"{name}_token": self._named(key) for name, key in NAMED.items()}
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
            vocabulary=lib.llama_vocab_n_tokens(self._vocab),
            memory_bytes=int(psutil.Process().memory_info().rss),
            vram_bytes=int(lib.llama_model_size(self._model)) if self._on_card else 0,
        )

    def vocabulary(self) -> Vocabulary:
        bos, eos = lib.llama_vocab_bos(self._vocab), lib.llama_vocab_eos(self._vocab)
        return Vocabulary(
            bos=self._bos,
            eos=self._eos,
            prefix=bos if bos >= 0 else eos,
            eos_id=eos,
            template=self._template or None,
            tokens={name: token for name, token in self._tokens.items() if token}
            | {"bos_token": self._bos, "eos_token": self._eos},
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        if add_special is None:
            add_special = not (self._bos and text.startswith(self._bos))
        raw = text.encode()
        room = len(raw) + 8
        ids = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, True)
        return list(ids[:count])

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def piece(self, token: int) -> bytes:
        return self._piece(token, special=True)

    def answer_bytes(self, token: int) -> bytes:
        return self._piece(token, special=False)

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of this process, and the bytes of weights on the card."""
        return int(psutil.Process().memory_info().rss), self.info.vram_bytes

    def _piece(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        size = lib.llama_token_to_piece(self._vocab, token, buffer, 64, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self._vocab, token, buffer, -size, 0, special)
        return buffer.raw[: max(size, 0)]

    def _special(self, token: int) -> str:
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _named(self, key: str) -> str:
        """Return a token that the file's metadata names by its id; empty where it names none."""
        buffer = ctypes.create_string_buffer(32)
        size = lib.llama_model_meta_val_str(self._model, f"tokenizer.ggml.{key}_token_id".encode(), buffer, 32)
        return self._special(int(buffer.value)) if size > 0 else ""

    def _is_control(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_control(self._vocab, token))
