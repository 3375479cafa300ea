"""The kept corpora: an archive a target, with what found new ways through the code, and what once was wrong (`found-...`)."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
MAX_KEPT_BYTES = 1 << 16
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def kept(target: str) -> dict[str, bytes]:
    """The inputs that are kept, by name."""
    path = FOLDER / f"{target}.zip"
    if not path.exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def unpack(target: str, folder: Path) -> None:
    """Into files, as fuzzers want them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in kept(target).items():
        (folder / name).write_bytes(data)


def keep(target: str, inputs: Mapping[str, bytes]) -> None:
    """These and no others; the same inputs make the same archive."""
    FOLDER.mkdir(exist_ok=True)
    with zipfile.ZipFile(FOLDER / f"{target}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(inputs):
            archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), inputs[name], zipfile.ZIP_DEFLATED, 9)


def named(inputs: Iterable[bytes]) -> dict[str, bytes]:
    """By what they hold; very large ones are left out."""
    return {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs if len(data) <= MAX_KEPT_BYTES}
