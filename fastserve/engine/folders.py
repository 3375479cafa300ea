"""What models' folders say of their models, read again when it changes and kept where it cannot be read.

Thread: the repository's. Memory: the last good settings of every folder that was looked at.
"""

import logging
from collections.abc import Container, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import FOLDER_FILES
from fastserve.config.folder import FolderSettings, read_settings
from fastserve.config.origin import FileIdentity, identity
from fastserve.errors import ConfigError

_log = logging.getLogger(__name__)

Identities = Mapping[str, FileIdentity | None]


class _Known(Struct):
    """One folder. `read`: its files as they were when they were read; `seen`: at the last look."""

    settings: FolderSettings
    read: Identities
    seen: Identities


class Folders:
    """The settings of every folder, followed. What is being written is not read half: it must look the same twice."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def settings(self, folder: Path, *, settle: bool) -> FolderSettings:
        """What the folder says now. `settle`: wait until what changed looks the same twice."""
        known = self._known.get(folder)
        if known is None:
            now = _identities(folder, FolderSettings())
            settings = _read(folder, None)
            read = now | _identities(folder, settings)
            self._known[folder] = _Known(settings, read, read)
            return settings
        now = _identities(folder, known.settings)
        settled = now == known.seen or not settle
        known.seen = now
        if settled and (now != known.read or known.settings.refused):  # what refused it may lie in another file
            known.settings = _read(folder, known.settings)
            known.read = known.seen = _identities(folder, known.settings)
        return known.settings

    def forget_others(self, folders: Container[Path]) -> None:
        """Those that are gone, or were of models that are."""
        for folder in [folder for folder in self._known if folder not in folders]:
            del self._known[folder]


def _identities(folder: Path, settings: FolderSettings) -> dict[str, FileIdentity | None]:
    names = {str(folder / name) for name in FOLDER_FILES} | set(settings.read)
    return {name: identity(name) for name in sorted(names)}


def _read(folder: Path, before: FolderSettings | None) -> FolderSettings:
    """The folder's settings; if they are broken, those before, or none, and why."""
    try:
        fresh = read_settings(folder)
    except ConfigError as error:
        fresh = FolderSettings(refused=(str(error),))
    if not fresh.refused or before is None or before.refused:
        return fresh
    reason = "; ".join(fresh.refused)
    _log.error("a model's changed settings cannot be used, what was read before stays in force: %s", reason)
    return replace(before, problems=(f"{reason} (what was read before stays in force)",))
