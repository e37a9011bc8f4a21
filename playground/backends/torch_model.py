"""A transformers model, loaded, and what it holds."""

from typing import Any

import psutil
import torch
from transformers import AutoConfig, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache

from playground.backends.norms import fuse_norms
from playground.catalogue.architectures import auto_class
from playground.errors import VariantError, refused
from playground.protocol import DEFAULT_CONTEXT, ModelInfo, ModelSpec
from playground.system.hardware import cpu_has_bf16
from playground.wording import worded

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TorchModel:
    """The part of the backend that needs no rows. Raises VariantError where transformers cannot load it."""

    def __init__(self, spec: ModelSpec) -> None:
        torch.set_num_threads(spec.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = _dtype(spec, self._device)
        self._model = _load_model(spec, self._dtype, self._device)
        if self._device.type == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each shape: 0.1 s at every new length
            fuse_norms(self._model)
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

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of this process, and the bytes reserved on the card."""
        on_card = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
        return int(psutil.Process().memory_info().rss), int(on_card)

    def close(self) -> None:
        del self._model


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
        model, report = auto_class(config).from_pretrained(
            spec.path,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            device_map="auto" if device.type == "cuda" else None,
            quantization_config=_nf4(dtype) if spec.load_in_4bit else None,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, ImportError) as error:
        if told := refused(error):
            raise told from error
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise VariantError(
            worded("torch_model.transformers_cannot_load", path=spec.path, reason=reason),
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise VariantError(
            worded(
                "torch_model.lacks_weights_first",
                path=spec.path,
                missing_count=len(missing),
                kind=type(model).__name__,
                missing=missing[0],
            ),
        )
    return model.eval().requires_grad_(False)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _is_stateful(model: Any) -> bool:
    """Return whether some layer keeps a running state (Mamba, linear attention), from which no row can be cut."""
    if getattr(model, "_is_stateful", False):
        return True
    layers = DynamicCache(config=model.config).layers
    return any("Linear" in type(layer).__name__ for layer in layers)
