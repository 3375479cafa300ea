"""What the configuration and the disk say together: the models that should be served, with their versions.

Both are looked at anew each time: what the configuration's files say is followed while serving.
Thread: the repository's. Memory: the last look's stamps, to know files that still grow from finished ones.
"""

import os
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fastserve.config import AuthConfig, Config, DatasetConfig, ModelConfig, VersionPolicy
from fastserve.config.folder import FolderSettings
from fastserve.config.tfserving import read_batching
from fastserve.engine.folders import Folders
from fastserve.engine.live_config import LiveConfig
from fastserve.engine.registry import OnDisk
from fastserve.errors import ConfigError
from fastserve.repository.layout import Found, Hint, ModelFiles, find_models
from fastserve.repository.policy import wanted_versions
from fastserve.repository.watch import stamp

VERSION_BATCHING_FILE = "batching_params.pbtxt"
"""TF Serving's, in a version's folder: batching for that version alone."""

CONFIGURATION = ""
"""Stands for the configuration's files among what is `finished`: no model has that name."""


class Catalog:
    """Looks at every configured place, again and again."""

    def __init__(self, config: Config) -> None:
        self._live = LiveConfig(config)
        self._config = config
        self._folders = Folders()
        self._owns: dict[Path, FolderSettings] = {}
        self._notes: list[str] = []
        self._settle = False
        self._finished: Container[str] = ()
        self._last: dict[str, OnDisk] = {}
        self._seen: dict[tuple[str, int], object] = {}
        self._looked = False
        self.problems: tuple[str, ...] = ()
        """What is wrong outside of single models, as of the last look."""
        self.notes: tuple[str, ...] = config.origin.notes
        """What the configuration says and is not applied, as of the last look."""
        self.configured = tuple(model.name for model in config.models)
        """Models that the configuration names, there or not, as of the last look."""

    @property
    def auth(self) -> AuthConfig:
        """Who may call, as of the last look."""
        return self._config.auth

    @property
    def datasets(self) -> tuple[DatasetConfig, ...]:
        """What models are predicted from, as of the last look."""
        return self._config.datasets

    def look(self, finished: Container[str] = ()) -> Mapping[str, OnDisk]:
        """Every model there is now. What cannot be read is kept as it was: it is not unloaded.

        `finished`: models whose files are taken as they are, however young: somebody said that they are complete.
        """
        self._config = self._live.look(finished=CONFIGURATION in finished)
        self._settle = self._looked and self._config.repository.poll_seconds > 0
        self._finished = finished
        self._notes = [*self._config.origin.notes]
        self._owns = {}
        found: dict[str, OnDisk] = {}
        problems: list[str] = [*self._live.problems]
        for place, name in self._places():
            self._look_at(place, name, found, problems)
        for model in self._config.models:
            if model.path is None and model.name not in found:
                problems.append(f'model "{model.name}" is configured, and no folder of the repository holds it')
        self.problems = tuple(self.placed(problem) for problem in problems)
        self.notes = tuple(self._notes)
        self._folders.forget_others(self._owns)
        self.configured = tuple(model.name for model in self._config.models)
        self._last = {name: disk if name in finished else self._settled(name, disk) for name, disk in found.items()}
        self._seen = {(name, n): s for name, disk in found.items() for n, s in disk.stamps.items()}
        self._looked = True
        return self._last

    def placed(self, problem: str) -> str:
        """`problem`, with where the configuration names what it is about, if it does not say so itself."""
        if ", line " in problem:
            return problem
        named = [name for name in self._config.origin.places if _mentions(problem, name)]
        return f"{self._config.origin.places[max(named, key=len)]}: {problem}" if named else problem

    def _places(self) -> list[tuple[Path, str | None]]:
        """Folders and files to look at; with a name where the configuration gives the model one."""
        places: list[tuple[Path, str | None]] = [(Path(path), None) for path in self._config.repository.path]
        return places + [(Path(model.path), model.name) for model in self._config.models if model.path is not None]

    def _look_at(self, place: Path, name: str | None, found: dict[str, OnDisk], problems: list[str]) -> None:
        here = find_models(place, self._hint)
        problems.extend(here.problems)
        if not here.models and not place.exists():
            found.update((n, disk) for n, disk in self._last.items() if disk.place == place)
            return
        for files in _named(here, name):
            if files.name in found and found[files.name].place != place:
                problems.append(
                    f'model "{files.name}" is in {found[files.name].place} and in {place}; the first one serves'
                )
                continue
            found[files.name] = self._on_disk(place, files)
        for model, before in self._last.items():
            if before.place == place and found.get(model, before).place == place:
                _keep_hidden(model, before, found)

    def _own(self, folder: Path) -> FolderSettings:
        """What a folder says of itself, read once a look."""
        if folder not in self._owns:
            settle = self._settle and folder.name not in self._finished
            self._owns[folder] = self._folders.settings(folder, settle=settle)
        return self._owns[folder]

    def _hint(self, folder: Path) -> Hint:
        own = self._own(folder)
        return Hint(
            name=own.name if own.renames else "",
            model_file=own.model_file,
            model_path=own.model_path,
            version=own.version,
            is_model=bool(own.file or own.refused),
            refused=bool(own.refused),
        )

    def _on_disk(self, place: Path, files: ModelFiles) -> OnDisk:
        own = self._own(files.base) if files.base.is_dir() else FolderSettings()
        entry = next((model for model in self._config.models if model.name == files.name), ModelConfig(name=files.name))
        config = self._over(entry, {**self._config.origin.defaults, **own.values})
        policy = self._config.repository.versions if config.versions is None else config.versions
        self._notes += own.notes
        problems = [*files.problems, *own.problems, *own.refused]
        if own.name and not own.renames and own.name not in (files.name, files.base.name):
            problems.append(
                f'{own.file}: the name "{own.name}" is not that of its folder; it is served as {files.name}'
            )
        versions = {} if own.refused else files.versions
        of_versions = dict(self._of_versions(entry, config, versions, problems))
        if not own.refused:
            problems += _unmet(files.base, config, policy, versions)
        return OnDisk(
            place=place,
            config=config,
            policy=policy,
            versions=versions,
            stamps={number: stamp(path, own.read) for number, path in versions.items()},
            problems=tuple(problems),
            declared=own.declared,
            of_versions=of_versions,
            base=files.base,
        )

    def _over(self, entry: ModelConfig, values: Mapping[str, Any]) -> ModelConfig:
        """The model's entry over `values`: what is written there stays."""
        written = self._config.written(entry)
        open_to = {field: value for field, value in values.items() if field not in written}
        return replace(entry, **open_to) if open_to else entry

    def _of_versions(
        self, entry: ModelConfig, config: ModelConfig, versions: Mapping[int, Path], problems: list[str]
    ) -> Iterator[tuple[int, ModelConfig]]:
        """Versions whose folder has a batching file of its own."""
        for number, path in versions.items():
            file = path.parent / VERSION_BATCHING_FILE
            if not file.is_file():
                continue
            try:
                values, notes = read_batching(file)
            except ConfigError as error:
                problems.append(str(error))
                before = self._last.get(entry.name)
                if before is not None and number in before.of_versions:
                    yield number, before.of_versions[number]
                continue
            self._notes += notes
            written = self._config.written(entry)
            yield number, replace(config, **{name: value for name, value in values.items() if name not in written})

    def _settled(self, name: str, disk: OnDisk) -> OnDisk:
        """Without what changed since the last look: a file that is being copied is not loaded half."""
        if not self._settle:
            return disk
        before = self._last.get(name)
        versions, stamps = {}, {}
        for number, path in disk.versions.items():
            settled = self._seen.get((name, number)) == disk.stamps[number]
            if settled:
                versions[number], stamps[number] = path, disk.stamps[number]
            elif before is not None and number in before.versions:
                versions[number], stamps[number] = path, before.stamps[number]
        return replace(disk, versions=versions, stamps=stamps)


def _mentions(problem: str, name: str) -> bool:
    """Whether it speaks of `name`, and not of something whose name only begins like it."""
    return re.search(rf"{re.escape(name)}(?![\w.-])", problem) is not None


def _named(here: Found, name: str | None) -> list[ModelFiles]:
    """The models of one place; a configured name stands for the single model that is there."""
    if name is None:
        return list(here.models)
    if len(here.models) == 1:
        return [replace(here.models[0], name=name)]
    return [files for files in here.models if files.name == name]


def _unmet(folder: Path, config: ModelConfig, policy: VersionPolicy, versions: Mapping[int, Path]) -> Iterator[str]:
    """Versions that the configuration names and that will not be served as things are."""
    if isinstance(policy, tuple):
        for number in policy:
            if number not in versions:
                yield f"{folder}: version {number} is asked for and not there"
    wanted = wanted_versions(policy, versions)
    for label, number in config.labels.items():
        if number not in wanted:
            why = "which the version policy leaves out" if number in versions else "which is not there"
            yield f'{folder}: the label "{label}" waits for version {number}, {why}'


def _keep_hidden(model: str, before: OnDisk, found: dict[str, OnDisk]) -> None:
    """Put back into `found` the versions of `before` that are not seen now because a folder cannot be read."""
    now = found.get(model)
    seen = {} if now is None else now.versions
    hidden = {n: path for n, path in before.versions.items() if n not in seen and _is_hidden(path, before.place)}
    if hidden:
        known = replace(before, versions={}, stamps={}) if now is None else now
        stamps = {n: before.stamps[n] for n in hidden}
        found[model] = replace(known, versions={**seen, **hidden}, stamps={**known.stamps, **stamps})


def _is_hidden(path: Path, place: Path) -> bool:
    """Whether a folder between `place` and `path` is there and cannot be listed: a stale mount, rights taken away."""
    for folder in (place, *(parent for parent in reversed(path.parents) if place in parent.parents)):
        try:
            with os.scandir(folder):
                pass
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
    return False
