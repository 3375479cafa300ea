"""What is on disk: models, their versions, and whatever looks as if it were meant to be one and is not.

Reads folders only, never a model. Thread: any, away from serving.
A folder's name becomes part of URLs, so it is checked; links that lead out of the given path are not followed.
"""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from fastserve.types import printable, refused_name

# Suffixes of the files that some backend loads, the usual one first.
MODEL_SUFFIXES = (".onnx", ".echo")
MAX_VERSION = 2**63 - 1

SAVED_MODEL = "saved_model.pb"
CONVERT = "convert it: python -m tf2onnx.convert --saved-model {folder} --output {folder}/model.onnx"
"""What those need who come from TensorFlow Serving with their folders."""

_MAX_SHOWN = 5


class ModelFiles(Struct, frozen=True):
    """One model and its versions' files. `base`: the file or folder found; `problems`: what in it was passed over."""

    name: str
    base: Path
    versions: dict[int, Path]
    problems: tuple[str, ...] = ()


class Hint(Struct, frozen=True):
    """What a folder itself says of the model in it.

    `name`: the model's, where it is not the folder's. `model_file`: which file of a version's folder is the model.
    `model_path`: the file or folder of the only version, `version`. `is_model`: it is one, whatever lies in it.
    `refused`: and none that can be served.
    """

    name: str = ""
    model_file: str = ""
    model_path: str = ""
    version: int = 1
    is_model: bool = False
    refused: bool = False


Hints = Callable[[Path], Hint]


class Found(Struct, frozen=True):
    """The models of one path, by name; `problems`: what was passed over and belongs to none of them."""

    models: tuple[ModelFiles, ...]
    problems: tuple[str, ...] = ()


class _Names(Struct, frozen=True):
    """Names in one folder, sorted, without hidden ones. `outside`: links that lead out of the path being searched."""

    folders: tuple[str, ...]
    files: tuple[str, ...]
    outside: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(name for name in self.files if Path(name).suffix.lower() in MODEL_SUFFIXES)

    @property
    def shown(self) -> str:
        return _listed((*self.folders, *self.files, *self.outside)) or "nothing"


def find_models(path: Path, hints: Hints = lambda _: Hint()) -> Found:
    """Find what `path` holds: one model file, one model's folder, or a folder of models.

    `hints`: what a folder says of itself.
    """
    root = os.path.realpath(path)
    try:
        if not path.is_dir():
            return _single_file(path)
        names = _list_folder(path, root)
    except OSError as error:
        return Found(models=(), problems=(f"{path}: {error.strerror or error}{_instead(path)}",))
    own_name = os.path.basename(root)
    if _versions(names) or _named_file(own_name, names) or hints(path).is_model:
        return _collected([_model(own_name, path, root, hints(path))], names, path)
    models = [_model(name, path / name, root, hints(path / name)) for name in names.folders]
    misplaced = [
        f"{path / name}: not served from here; move it to {path / Path(name).stem / name}" for name in names.models
    ]
    if not misplaced and not any(isinstance(model, ModelFiles) for model in models):
        misplaced = [f"{path}: neither version folders nor models; found {names.shown}"]
    return _collected([*misplaced, *models], names, path)


def _instead(path: Path) -> str:
    """What may have been meant by a path that is not there; empty where nothing is like it."""
    try:
        if path.exists():
            return ""
        names = _list_folder(path.parent, os.path.realpath(path.parent))
    except OSError:
        return ""
    near = get_close_matches(path.name, (*names.folders, *names.files), n=1)
    if near:
        return f"; did you mean {printable(near[0])}?"
    return f"; {path.parent} itself holds versions" if _versions(names) else ""


def version_number(name: str) -> int | None:
    """The version that a folder's name stands for: `00000123` is 123; None where it is no number."""
    if not (name.isascii() and name.isdigit()) or len(name) > 40:
        return None
    number = int(name)
    return number if number <= MAX_VERSION else None


def _single_file(path: Path) -> Found:
    path.stat()
    if path.suffix.lower() not in MODEL_SUFFIXES:
        return Found(models=(), problems=(f"{path}: not a model file ({', '.join(MODEL_SUFFIXES)}) and not a folder",))
    if not path.is_file():
        return Found(models=(), problems=(f"{path}: not a regular file",))
    refused = refused_name(path.stem)
    if refused:
        return Found(models=(), problems=(f"{printable(str(path))}: {refused}",))
    return Found(models=(ModelFiles(name=path.stem, base=path, versions={1: path}),))


def _collected(results: list[ModelFiles | str], names: _Names, path: Path) -> Found:
    models = _merged([result for result in results if isinstance(result, ModelFiles)])
    problems = [result for result in results if isinstance(result, str)]
    problems += [_outside(path, name) for name in names.outside]
    return Found(models=models, problems=tuple(problems))


def _merged(models: list[ModelFiles]) -> tuple[ModelFiles, ...]:
    """Folders that name the same model hold its versions; the newest one's folder speaks for all."""
    by_name: dict[str, list[ModelFiles]] = {}
    for model in models:
        by_name.setdefault(model.name, []).append(model)
    return tuple(_as_one(same) if len(same) > 1 else same[0] for same in by_name.values())


def _as_one(same: list[ModelFiles]) -> ModelFiles:
    same.sort(key=lambda model: (max(model.versions, default=-1), str(model.base)))
    versions: dict[int, Path] = {}
    problems = [problem for model in same for problem in model.problems]
    for model in same:
        for number, path in model.versions.items():
            if number in versions:
                problems.append(f"{path} and {versions[number]} are both version {number} of {model.name}")
            versions.setdefault(number, path)
    return ModelFiles(name=same[0].name, base=same[-1].base, versions=versions, problems=tuple(problems))


def _model(name: str, folder: Path, root: str, hint: Hint) -> ModelFiles | str:
    """The model in `folder`, or why there is none."""
    name = hint.name or name
    refused = refused_name(name)
    if refused:
        return f"{printable(str(folder))}: {refused}"
    if hint.refused:
        return ModelFiles(name=name, base=folder, versions={})
    try:
        names = _list_folder(folder, root)
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    if hint.model_path:
        return _described(name, folder, hint, root)
    if _versions(names):
        return _versioned(name, folder, names, root, hint.model_file)
    own_file = _named_file(name, names) or _named_file(folder.name, names)
    if not own_file and hint.is_model:
        own_file = _named_file("model", names) or (names.models[0] if len(names.models) == 1 else None)
    if own_file:
        return ModelFiles(name=name, base=folder, versions={hint.version: folder / own_file})
    return f"{folder}: no numeric version folder and no {name}{MODEL_SUFFIXES[0]}; found {names.shown}"


def _described(name: str, folder: Path, hint: Hint, root: str) -> ModelFiles:
    """The only version, where the folder says that it is."""
    path = Path(hint.model_path)
    file = _version_file(path, root, "") if path.is_dir() else path
    if isinstance(file, str):
        return ModelFiles(name=name, base=folder, versions={}, problems=(file,))
    if not file.is_file() or not _inside(os.path.realpath(file), root):
        why = f"{file}: no such file" if not file.exists() else f"{file}: not a file inside the served path"
        return ModelFiles(name=name, base=folder, versions={}, problems=(why,))
    return ModelFiles(name=name, base=folder, versions={hint.version: file})


def _versioned(name: str, folder: Path, names: _Names, root: str, model_file: str) -> ModelFiles:
    versions: dict[int, Path] = {}
    problems = [_outside(folder, link) for link in names.outside]
    chosen: dict[int, str] = {}
    for entry, number in _versions(names):
        if number in chosen:
            problems.append(
                f"{folder}: {entry} and {chosen[number]} are both version {number}; {chosen[number]} is served"
            )
            continue
        chosen[number] = entry
        file = _version_file(folder / entry, root, model_file)
        if isinstance(file, Path):
            versions[number] = file
        else:
            problems.append(file)
    ignored = [entry for entry in names.folders if version_number(entry) is None]
    if ignored:
        problems.append(f"{folder}: not version numbers, so not served: {_listed(ignored)}")
    if names.models:
        problems.append(f"{folder}: not served, because there are version folders: {_listed(names.models)}")
    return ModelFiles(name=name, base=folder, versions=versions, problems=tuple(problems))


def _version_file(folder: Path, root: str, model_file: str) -> Path | str:
    """The model file of one version, or why there is none. `model_file`: its name, if that was said."""
    try:
        names = _list_folder(folder, root)
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    if model_file:
        return folder / model_file if model_file in names.files else f"{folder}: no {model_file}; found {names.shown}"
    usual = _named_file("model", names)
    if usual:
        return folder / usual
    if f"model{MODEL_SUFFIXES[0]}" in names.folders:  # as Triton has it for a model of several files
        return _version_file(folder / f"model{MODEL_SUFFIXES[0]}", root, "")
    if len(names.models) == 1:
        return folder / names.models[0]
    if names.models:
        return f"{folder}: several model files and none is model{MODEL_SUFFIXES[0]}: {_listed(names.models)}"
    outside = "; links that lead elsewhere are not followed" if names.outside else ""
    saved = f"; {CONVERT.format(folder=folder)}" if SAVED_MODEL in names.files else ""
    return f"{folder}: no model{MODEL_SUFFIXES[0]}; found {names.shown}{outside}{saved}"


def _versions(names: _Names) -> list[tuple[str, int]]:
    """Version folders by number; of one number the shortest name first, so that `1` wins over `001`."""
    numbered = [(name, version_number(name)) for name in names.folders]
    found = [(name, number) for name, number in numbered if number is not None]
    return sorted(found, key=lambda pair: (pair[1], len(pair[0])))


def _named_file(stem: str, names: _Names) -> str | None:
    return next((stem + suffix for suffix in MODEL_SUFFIXES if stem + suffix in names.files), None)


def _list_folder(folder: Path, root: str) -> _Names:
    folders, files, outside = [], [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _inside(os.path.realpath(entry.path), root):
                outside.append(entry.name)
            elif entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
    return _Names(folders=tuple(folders), files=tuple(files), outside=tuple(outside))


def _inside(target: str, root: str) -> bool:
    return target == root or target.startswith(root.rstrip("/") + "/")


def _outside(folder: Path, name: str) -> str:
    return (
        f"{printable(str(folder / name))}: a link that leads out of the served path is not followed; serve its target"
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(printable(name) for name in names[:_MAX_SHOWN]) + more
