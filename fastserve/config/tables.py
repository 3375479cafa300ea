"""Datasets as a configuration names them: what is wrong with them, and where their files are. Pure."""

import re
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from fastserve.config.allowed import FILE
from fastserve.config.fields import Config, DatasetConfig
from fastserve.errors import ConfigError

Keys = tuple[str | int, ...]
FILE_SCHEME = re.compile(r"file:(?://)?(?=/)|file:")
OTHER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def resolved(dataset: DatasetConfig, base: Path) -> DatasetConfig:
    """With its files' place made absolute: `data/x.csv` and `file:data/x.csv` are `file:BASE/data/x.csv`."""
    if not dataset.source:
        return dataset
    return replace(dataset, source=f"{FILE}{base / FILE_SCHEME.sub('', dataset.source, count=1)}")


def check(config: Config, error: Callable[[Keys, str], ConfigError]) -> None:
    """Raises `error` where a dataset is named twice, or not at all, or says not where its rows are."""
    names: set[str] = set()
    for i, dataset in enumerate(config.datasets):
        keys: Keys = ("datasets", i)
        if dataset.name in names:
            raise error((*keys, "name"), f'the name "{dataset.name}" is already that of a dataset')
        names.add(dataset.name)
        if bool(dataset.source) == bool(dataset.sql):
            raise error(keys, "expected from or sql, one of them")
        rest = FILE_SCHEME.sub("", dataset.source, count=1)
        if rest.startswith("//") or OTHER_SCHEME.match(rest):
            raise error((*keys, "from"), f'expected files of this machine (file:PATH), got "{dataset.source}"')
    for i, model in enumerate(config.models):
        if model.dataset is not None and model.dataset not in names:
            known = ", ".join(sorted(names)) or "there are none"
            raise error(("models", i, "dataset"), f'no dataset is named "{model.dataset}"; known here: {known}')
