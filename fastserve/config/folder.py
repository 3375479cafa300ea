"""What a model's folder says of its model: Triton's config.pbtxt, MLServer's model-settings.json, as fields of ours.

Thread: the repository's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from fastserve.config import FOLDER_FILES
from fastserve.errors import ConfigError

TRITON_FILE, MLSERVER_FILE = FOLDER_FILES


class FolderSettings(Struct, frozen=True):
    """One folder's own settings.

    `file`: where they stand; empty where there are none. `name`: what the model calls itself; `renames`: it is served
    under that name, else under its folder's. `values`: fields of ModelConfig. `model_file`: the file's name inside
    version folders. `model_path`: the file or folder of its only version, `version`. `read`: every file that had a part.
    `declared`: all that was said, as plain values. `notes`: what is not applied. `problems`: what is wrong, though the
    model can be served. `refused`: why it cannot.
    """

    file: str = ""
    name: str = ""
    renames: bool = False
    values: Mapping[str, Any] = {}
    model_file: str = ""
    model_path: str = ""
    version: int = 1
    read: tuple[str, ...] = ()
    declared: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def read_settings(folder: Path) -> FolderSettings:
    """What `folder` says; nothing where it has no such file. Raises ConfigError with file and line."""
    from fastserve.config import mlserver, triton  # protobuf, for those who need it

    for name, read in ((TRITON_FILE, triton.read_config), (MLSERVER_FILE, mlserver.read_settings)):
        if (folder / name).is_file():
            return read(folder / name)
    return FolderSettings()


def inside(folder: Path, name: str, what: str) -> Path:
    """A file of the folder by its name there. Raises ConfigError where that leads out of it."""
    path = folder / name
    root = folder.resolve()
    if "\0" in name or not path.resolve().is_relative_to(root):
        raise ConfigError(f'{what} "{name}" leads out of {folder}')
    return path
