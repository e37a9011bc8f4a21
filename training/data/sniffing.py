"""What a file is by its first bytes, whatever its name says; one that Madang does not read is refused by what it is."""

from pathlib import Path

from playground.errors import ConfigError
from training.data.encodings import open_bytes

SHEET = "Open it in a spreadsheet and save it as CSV (UTF-8); unpack a .zip."
UNPACK = "Unpack it first; .gz alone is read as it is."
ARROW = "Save it as Parquet: datasets.load_from_disk(FOLDER) or Dataset.from_file(FILE), then .to_parquet(…)."
PAGE = "Download the file itself; a private or gated one needs a login."
SIGNS = {
    b"PK\x03\x04": ("a ZIP archive, as .xlsx files are", SHEET),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet of old Excel (.xls)", SHEET),
    b"\x1f\x8b": ("compressed with gzip", "Unpack it first; Parquet is compressed within."),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", UNPACK),
    b"BZh9": ("compressed with bzip2", UNPACK),
    b"\xfd7zXZ\0": ("compressed with xz", UNPACK),
    b"ARROW1": ("an Arrow (Feather) file", ARROW),
    b"\xff\xff\xff\xff": ("an Arrow stream, as `datasets` keeps its tables", ARROW),
    b"PAR1": ("a Parquet file", "Name it .parquet."),
    b"SQLite format 3\0": ("an SQLite database", "Save its table as CSV."),
    b"%PDF-": ("a PDF", "Save its text as .txt."),
    b"GGUF": ("a GGUF model", "Name the file with the training rows."),
    b"version https://git-lfs": ("a Git LFS pointer and not the data", "Fetch the data: git lfs pull"),
    b"<!doctype html": ("a web page, likely an error or a login", PAGE),
    b"<html": ("a web page, likely an error or a login", PAGE),
    b"<?xml": ("XML, likely the error of a server", PAGE),
}
LONGEST_SIGN = 64


def refuse_foreign(path: Path, kind: str) -> None:
    """Refuse a file whose first bytes are those of something else than its kind, with what to do about it."""
    with path.open("rb") if kind == ".parquet" else open_bytes(path) as file:
        head = file.read(LONGEST_SIGN)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for sign, (what, remedy) in SIGNS.items():
        meant = (sign == b"PAR1" and kind == ".parquet") or (sign.startswith(b"<") and kind == ".txt")
        if not meant and (head.startswith(sign) or text.startswith(sign)):
            raise ConfigError(f"{path} is {what}, not {kind}.", remedy)
    if head and not head.strip(b"\0"):
        raise ConfigError(f"{path} begins with NUL bytes: it was never written whole.", "Copy or download it again.")
