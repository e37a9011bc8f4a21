"""Models in plain folders: LM Studio's, and any folder that the owner names. GGUFs, whole models and adapters."""

from collections.abc import Sequence
from pathlib import Path

from playground.catalogue import architectures, files, gguf_files, kinds, quantized
from playground.catalogue.discovery.found import FOLDER, LM_STUDIO, Found, Look
from playground.catalogue.discovery.reading import explained, folders, gguf_obstacle, json_object, size
from playground.catalogue.remarks import Remark
from playground.catalogue.variants import absolute
from playground.errors import VariantError


def look_at(root: Path, look: Look, place: str = FOLDER) -> None:
    """Add what lies in a folder and below it."""
    for folder, names in folders(root, look):
        if "config.json" in names or "adapter_config.json" in names:
            look.found += model_folder(folder, names, place, _title(root, folder))
        look.found += ggufs(folder, names, place, "" if folder == root else f"{_title(root, folder)}/")


def look_at_lm_studio(home: Path, look: Look) -> None:
    """Add what LM Studio keeps: in the folder that its settings name, else in those it begins with."""
    pointer = home / ".lmstudio-home-pointer"
    try:
        own = Path(pointer.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        own = home / ".lmstudio"
    named = json_object(own / "settings.json", look).get("downloadsFolder")
    roots = [Path(named)] if isinstance(named, str) and named else [own / "models"]
    for root in dict.fromkeys(path.resolve() for path in (*roots, home / ".cache" / "lm-studio" / "models")):
        look_at(root, look, LM_STUDIO)


def ggufs(folder: Path, names: Sequence[str], place: str, prefix: str) -> list[Found]:
    """Return the GGUF models among a folder's files: one in shards is one, projectors and importance matrices none."""
    there, made = set(names), []
    for first, parts in gguf_files.choices(names).items():
        here = [folder / part for part in parts if part in there]
        path = folder / first
        made.append(
            Found(
                place=place,
                title=prefix + (first if len(parts) == 1 else f"{gguf_files.stem(first)} ({len(parts)})"),
                kind=kinds.guess(str(path)),
                source=absolute(path),
                path=path,
                size=sum(map(size, here)),
                obstacle=lacking(len(parts) - len(here), len(parts)) or gguf_obstacle(path),
            )
        )
    return made


def lacking(missing: int, count: int) -> Remark | None:
    """Return that files of a model in several are missing; None where all are there."""
    return Remark("found.shards", {"missing": missing, "count": count}) if missing else None


def model_folder(folder: Path, names: Sequence[str], place: str, title: str) -> list[Found]:
    """Return the whole model or the adapter that a folder is; nothing where it has no weights of either."""
    if not any(name.endswith((".safetensors", ".bin", ".index.json")) for name in names):
        return []
    kind = kinds.guess(str(folder))
    if kind == "gguf":
        return []  # its config lies beside GGUFs, which are told one by one
    weights = [name for name in names if name.endswith((".safetensors", ".bin"))]
    return [
        Found(
            place=place,
            title=title,
            kind=kind,
            source=absolute(folder),
            path=folder,
            size=sum(size(folder / name) for name in weights),
            base=base_of(folder) if kind == "adapter" else "",
            obstacle=folder_obstacle(folder, kind, title),
        )
    ]


def base_of(folder: Path) -> str:
    """Return the base that an adapter's own config names."""
    return str(json_object(folder / "adapter_config.json", Look()).get("base_model_name_or_path") or "")


def folder_obstacle(folder: Path, kind: str, title: str) -> Remark | None:
    """Return why a folder cannot be used as it is; None where it looks sound. Reads configs and names alone."""
    if kind == "adapter":
        here = (folder / "adapter_model.safetensors").exists()
        return None if here else Remark("found.no_adapter_weights")
    try:
        files.check_described(folder)
        config = files.read_json(folder / "config.json")
        architectures.check(folder, config)
        quantized.check(folder, config, ())
        files.weight_files(folder)
    except VariantError as error:
        return explained(error, folder, title)
    except OSError as error:
        return Remark("found.closed", {"path": str(folder), "why": error.strerror or type(error).__name__})
    return None


def _title(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else root.name or str(root)
