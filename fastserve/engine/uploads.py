"""Models that come with a load call, and not from the repository: their files, each model's below a private folder.

The call's own process writes them, and hands the folder to the director, who keeps it as long as the model may be loaded
from it. Both hold it by a lock (flock), so that what a killed server leaves is known as left over.
Thread: `Upload` any; the rest the director's. Memory: a descriptor a folder.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from msgspec.structs import asdict, replace

from fastserve.backends.shared import hold, remove_left
from fastserve.config import ModelConfig
from fastserve.engine.overrides import CONFIG, DECIDED, Overrides, read_overrides, with_versions, without_folder
from fastserve.engine.registry import OnDisk
from fastserve.errors import InvalidRequest, LoadRefused, quoted
from fastserve.repository.layout import Hint, ModelFiles, find_models
from fastserve.repository.watch import stamp
from fastserve.types import refused_name

PREFIX = "fastserve-upload-"
FILES = "files"
"""Among what a load call asks for, the folder of an upload."""

MAX_FILES = 1000
MAX_PARTS = 8
MAX_PART_BYTES = 255


def check_names(model: str, names: Collection[str]) -> None:
    """Raises InvalidRequest for a model or files whose names are none, or would lie elsewhere than below the model."""
    refused = refused_name(model) or (
        "" if _is_part(model) else f"it begins with a dot, or has over {MAX_PART_BYTES} bytes"
    )
    if refused:
        raise InvalidRequest(f"the model's name {quoted(model)}: {refused}")
    if len(names) > MAX_FILES:
        raise InvalidRequest(f"expected at most {MAX_FILES} files, got {len(names)} - at `$.parameters`")
    folders = {name.rpartition("/")[0] for name in names}
    for name in names:
        parts = name.split("/")
        if len(parts) > MAX_PARTS or not all(map(_is_part, parts)) or name in folders:
            raise InvalidRequest(
                f"expected names like file:1/model.onnx, of at most {MAX_PARTS} parts below the model's folder,"
                f" got {quoted('file:' + name)} - at `$.parameters`"
            )


def _is_part(part: str) -> bool:
    return bool(part) and part.isprintable() and not part.startswith(".") and "\\" not in part and not _is_long(part)


def _is_long(part: str) -> bool:
    return len(part.encode(errors="replace")) > MAX_PART_BYTES


class Upload:
    """A fresh folder for a model's files, `folder`/`model`, held until `release`. Raises LoadRefused for want of room."""

    def __init__(self, model: str, parent: str | None) -> None:
        base = Path(parent or tempfile.gettempdir())
        self._lock = -1
        try:
            remove_left(base, PREFIX)
            while self._lock < 0:  # another server may take it for left over before it is locked
                self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
                self._lock = hold(self.folder, fcntl.LOCK_SH)
            self._base = self.folder / model
            self._base.mkdir(mode=0o700)
        except OSError as error:
            raise _no_room(error) from error

    def write(self, name: str, content: bytes) -> None:
        """One file; its name is one that `check_names` lets pass. Raises LoadRefused."""
        path = self._base / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
        except OSError as error:
            raise _no_room(error) from error

    def release(self) -> None:
        """It is the director's now."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def remove(self) -> None:
        """It is nobody's."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()


def _no_room(error: OSError) -> LoadRefused:
    return LoadRefused(f"the server cannot store the model's files: {error.strerror}")


class Uploads:
    """The folders that the director keeps."""

    def __init__(self) -> None:
        self._locks: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def take(self, folder: Path) -> None:
        """Keep it from now on. Raises LoadRefused where it is gone."""
        with suppress(OSError):
            lock = hold(folder, fcntl.LOCK_SH)
            if lock >= 0:
                self._locks[folder] = lock
                return
        raise LoadRefused("the model's files are gone: send them again")

    def keep_only(self, needed: Collection[Path]) -> None:
        """Remove all others."""
        for folder in [folder for folder in self._locks if folder not in needed]:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(self._locks.pop(folder))


def read_upload(model: str, base: Path, config: str, known: OnDisk | None) -> tuple[OnDisk, Overrides]:
    """The model in `base`, an upload's, as if it lay on disk, configured by `config`; and what that says.

    `known`: what the repository has under that name; its files, and what it says of them, count for nothing. Raises
    InvalidRequest.
    """
    disk = OnDisk(base.parent, _undecided(model, known), "latest", {}, {}, base=base)
    found = read_overrides({CONFIG: config}, disk)
    here = find_models(base, lambda _: Hint(is_model=True, model_file=found.model_file))
    files = here.models[0] if here.models else ModelFiles(model, base, {}, here.problems)
    if not files.versions:
        said = "; ".join(without_folder(problem, disk) for problem in files.problems)
        raise InvalidRequest(f"no file of the request is a version's model, such as file:1/model.onnx: {said}")
    stamps = {number: stamp(path) for number, path in files.versions.items()}
    found = with_versions(found, files.versions)
    return replace(disk, versions=files.versions, stamps=stamps, problems=files.problems), found


def _undecided(model: str, known: OnDisk | None) -> ModelConfig:
    """The model's configuration without what Triton's decides."""
    bare = ModelConfig(name=model)
    if known is None:
        return bare
    return replace(known.config, **{name: value for name, value in asdict(bare).items() if name in DECIDED})
