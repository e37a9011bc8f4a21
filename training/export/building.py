"""Makes the parts of an export, one after the other, each whole or not at all. Judges and registers nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playground.catalogue import adapters
from playground.system.atomic import remove, replacing
from playground.system.progress import Tell
from training.export import gguf, gptq, imatrix, merge, modelfile, tokenizer
from training.export.exports import Asked, Export
from training.export.origin import Origin
from training.export.plan import F16, Sizes, Wanted
from training.export.process import isolated
from training.export.shards import bytes_16bit
from training.export.watching import growing

DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "LICENSE*", "NOTICE*")


@dataclass(frozen=True)
class Builder:
    """Builds into an export's folder; what is there already is not built again."""

    export: Export
    origin: Origin
    asked: Asked
    sizes: Sizes

    def build(self, wanted: Wanted, progress: Tell) -> bool:
        """Make one artefact, and what it needs on the way; False: it was there."""
        target = self.export.path(wanted)
        if target.exists():
            return False
        steps: dict[str, Callable[[Tell], None]] = {
            "adapter": self._adapter,
            "merged": self.merge,
            "gguf": lambda tell: self._gguf(wanted, target, tell),
            "gptq": lambda tell: self._gptq(target, tell),
        }
        steps[wanted.kind](progress)
        return True

    @property
    def f16(self) -> Path:
        """Return the one conversion that every level is quantized from: an artefact, or a file built on the way."""
        stays = F16 in self.asked.wanted
        return self.export.path(F16) if stays else self.export.work / f"{self.asked.stem}-F16.gguf"

    @property
    def merged(self) -> Path:
        """The merged weights: an artefact, or built on the way."""
        kept = any(one.kind == "merged" for one in self.asked.wanted)
        return self.export.folder / "merged" if kept else self.export.work / "merged"

    def merge(self, progress: Tell) -> None:
        """Make the merged weights, if they are not there."""
        if self.merged.exists():
            return
        with growing(self.merged, bytes_16bit(self.origin.base_folder), progress, "Merging the adapter into the base"):
            isolated(
                merge.merge,
                self.origin.base_folder,
                self.origin.adapter_folder,
                self.merged,
                DTYPES[self.asked.dtype],
                self.origin.prompt_format or "",
                what="Merging the adapter into the base",
            )

    def convert(self, progress: Tell) -> bool:
        """Make the f16 GGUF; False: it was there."""
        if self.f16.exists():
            return False
        self.merge(progress)
        self._convert(self.f16, "f16", progress)
        return True

    def modelfile(self, wanted: Wanted, number: int) -> Path:
        """Write the Modelfile of a GGUF: the first one's is called just that."""
        name = "Modelfile" if number == 0 else f"Modelfile.{wanted.label}"
        adapter, base = adapters.read(self.origin.adapter_folder), self.origin.base_folder
        own = tokenizer.template(adapter, base)
        chat = modelfile.Chat.read(tokenizer.folder(adapter, base), base, own, self.origin.prompt_format)
        self.export.write(name, modelfile.text(self.export.path(wanted).name, chat))
        return self.export.folder / name

    def clear(self) -> None:
        """Remove what was built on the way."""
        remove(self.export.work)

    def _adapter(self, progress: Tell) -> None:
        progress(0.0, "Copying the adapter")
        with replacing(self.export.folder / "adapter") as part:
            part.mkdir()
            tokenizer.carry(self.origin.adapter_folder, part, ADAPTER_FILES + tokenizer.FILES)

    def _gguf(self, wanted: Wanted, target: Path, progress: Tell) -> None:
        if wanted.level == "f16":
            self.convert(progress)
        elif wanted.level in gguf.DIRECT:
            self.merge(progress)
            self._convert(target, wanted.level, progress)
        else:
            self.convert(progress)
            matrix = self._imatrix(progress)
            with growing(target, self.sizes.artefacts[wanted.label], progress, f"Quantizing to {wanted.label}"):
                gguf.quantize(self.f16, target, wanted.level, matrix)

    def _imatrix(self, progress: Tell) -> Path | None:
        """Measure the importance matrix of the text that was asked for, once for all levels."""
        text, made = self.asked.imatrix, self.export.work / "imatrix.npz"
        if text and not made.exists():
            self.merge(progress)
            progress(0.5, f"Reading {Path(text).name} for the importance matrix")
            with replacing(made) as part:
                isolated(imatrix.measure, self.merged, text, part, what="Measuring the importance matrix")
        return made if text else None

    def _convert(self, target: Path, level: str, progress: Tell) -> None:
        full = bytes_16bit(self.origin.base_folder) * (2 if level == "f32" else 1)
        with growing(target, full, progress, f"Converting to a {level.upper()} GGUF"):
            gguf.convert(self.merged, target, level, self.asked.stem)

    def _gptq(self, target: Path, progress: Tell) -> None:
        self.merge(progress)
        gptq.quantize(self.merged, target, self.origin.rows, None, progress)
