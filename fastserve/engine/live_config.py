"""The configuration as its files say now: read again when they change, kept as it was where they cannot be used.

Thread: the repository's. Memory: the files' identities as last seen.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from fastserve.config import Config
from fastserve.config.origin import FileIdentity, identity
from fastserve.errors import ConfigError

LIVE_SECTIONS = ("models", "datasets", "auth", "origin")
LIVE_FIELDS = (("repository", "path"), ("repository", "versions"), ("repository", "batching_parameters_file"))
"""What takes effect while serving; everything else at the next start."""

OPENS = (
    "configuration: it names no users and no keys any more; that takes effect at the next start, so that a file that is cut"
    " short lets nobody in, and those who were named last may call until then; to lock them out now, write required = true"
    " under [auth]"
)

_log = logging.getLogger(__name__)


class LiveConfig:
    """One configuration, followed. A file that is being written is not read half: it must look the same twice.

    `config`: what is in force. `problems`: what is wrong with the files as they are now.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.problems: tuple[str, ...] = ()
        self._at_start = config
        self._read = dict(config.origin.files)
        self._seen = self._read

    def look(self, *, finished: bool = False) -> Config:
        """The configuration to use now. `finished`: the files are complete, however young."""
        now: dict[str, FileIdentity | None] = {path: identity(path) for path in self._read}
        settled = finished or now == self._seen or self.config.repository.poll_seconds == 0
        self._seen = now
        if now != self._read and settled:
            self._read = now
            self._read_again()
        return self.config

    def _read_again(self) -> None:
        again = self.config.origin.again
        assert again is not None, "files without a way to read them"
        try:
            fresh: Config = again()
        except ConfigError as error:
            self.problems = (f"{error} (the configuration that was read before stays in force)",)
            _log.error("the changed configuration cannot be used, what was read before stays in force: %s", error)
            return
        if self.config.auth and not fresh.auth:
            _log.warning(OPENS)
            fresh = replace(fresh, auth=self.config.auth)
        for change in _changes(self.config, fresh):
            _log.info("configuration: %s", change)
        waiting = _waiting(self._at_start, fresh)
        for name in waiting:
            _log.warning("configuration: %s has changed, which takes effect at the next start", name)
        for note in fresh.origin.notes:
            if note not in self.config.origin.notes:
                _log.warning("configuration: %s", note)
        self.problems = ()
        self.config = fresh
        self._read = dict(fresh.origin.files)
        self._seen = self._read


def _changes(before: Config, after: Config) -> list[str]:
    """What happens to models, datasets, users and keys, in words; of secrets, only that they are others."""
    return [
        *_differences("model", before.models, after.models, "name"),
        *_differences("dataset", before.datasets, after.datasets, "name"),
        *_differences("user", before.auth.users, after.auth.users, "username"),
        *_differences("key", before.auth.keys, after.auth.keys, "name"),
    ]


def _differences(what: str, before: Sequence[Struct], after: Sequence[Struct], named: str) -> list[str]:
    old = {getattr(entry, named): entry for entry in before}
    new = {getattr(entry, named): entry for entry in after}
    words = [f"{what} {name} is not configured any more" for name in old if name not in new]
    words += [f"{what} {name} is new" for name in new if name not in old]
    for name, entry in new.items():
        fields = asdict(entry)
        differs = [field for field, value in fields.items() if value != getattr(old.get(name, entry), field)]
        words += [f"{what} {name}: {', '.join(differs)} changed"] if differs else []
    return words


def _waiting(before: Config, after: Config) -> list[str]:
    """Fields that differ and cannot be changed while serving, as `server.port`."""
    names: list[str] = []
    for section in before.__struct_fields__:
        if section in LIVE_SECTIONS:
            continue
        old, new = _values(getattr(before, section)), _values(getattr(after, section))
        names += [
            ".".join(filter(None, (section, field)))
            for field in {**old, **new}
            if old.get(field) != new.get(field) and (section, field) not in LIVE_FIELDS
        ]
    return names


def _values(section: Any) -> Mapping[str, Any]:
    return asdict(section) if isinstance(section, Struct) else {"": section}
