"""A folder's tokenizer as transformers loads it, which is not always what its tokenizer.json says.

Classes such as LlamaTokenizer build their own from the file's vocabulary: another space behind control tokens, other
special tokens. They are asked for in a process of its own, without torch, so that this one stays small.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from playground.errors import VariantError
from playground.settings import child_environment

AS_THEY_STAND = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes for which the file is the tokenizer."""
REPLACED = ("qwen2",)
"""Kinds of models whose class transformers 5.17 takes in place of these."""
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "config.json")


class Loaded(NamedTuple):
    """A tokenizer.json, and the special tokens by the names that a template is given them under."""

    tokenizer: str
    tokens: dict[str, str]


def stands_as_written(config: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer is what its tokenizer.json says, by its tokenizer_config.json and the config.json."""
    named, kind = config.get("tokenizer_class"), model.get("model_type")
    return (named in AS_THEY_STAND and kind not in REPLACED) if named else kind is None


def loaded(folder: Path) -> Loaded:
    """Return the tokenizer; raises VariantError with transformers' reason where it cannot be loaded."""
    found = [folder / name for name in FILES]
    return _loaded(folder, tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in found))


@lru_cache(maxsize=4)
def _loaded(folder: Path, changed: tuple[int, ...]) -> Loaded:
    command = [sys.executable, "-m", __name__, str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=child_environment({}))
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise VariantError(
            f"transformers cannot load the tokenizer of {folder.name}: {reason[:300]}",
            "Copy tokenizer.json and tokenizer_config.json beside the weights.",
        )
    return Loaded(**json.loads(done.stdout))


def main() -> None:
    """Write the tokenizer of the folder that is named to stdout, as JSON."""
    _hide_torch()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=False)
    found = Loaded(tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map)
    sys.stdout.write(json.dumps(found._asdict()))


def _hide_torch() -> None:
    """Have transformers find no torch: tokenizers need none, and its import takes most of the time."""
    find = importlib.util.find_spec

    def others(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "torch" else find(name, package)

    importlib.util.find_spec = others


if __name__ == "__main__":
    main()
