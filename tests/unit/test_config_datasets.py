"""`[[datasets]]` of a configuration file."""

from pathlib import Path

import pytest

from fastserve.config import load_config
from fastserve.errors import ConfigError


def read(folder: Path, text: str):
    file = folder / "fastserve.toml"
    file.write_text(text)
    return load_config(file=str(file), env={"DATA": "deep"})


SOURCES = [
    ("data/x.csv", "{}/data/x.csv"),
    ("file:data/x.csv", "{}/data/x.csv"),
    ("file:/a/x.csv", "/a/x.csv"),
    ("file:///a/*.csv", "/a/*.csv"),
    ("/a/x.csv", "/a/x.csv"),
    ("${DATA}/x.csv", "{}/deep/x.csv"),
]


@pytest.mark.parametrize(("source", "path"), SOURCES)
def test_where_files_are(tmp_path: Path, source: str, path: str):
    (one,) = read(tmp_path, f"[[datasets]]\nname = 'd'\nfrom = '{source}'").datasets
    assert one.source == f"file:{path.format(tmp_path)}"


MISTAKES = [
    ("[[datasets]]\nname = 'd'", "line 1: datasets[0]: expected from or sql, one of them"),
    ("[[datasets]]\nname = 'd'\nfrom = 'x.csv'\nsql = 'select 1'", "line 1: datasets[0]: expected from or sql"),
    ("[[datasets]]\nname = 'd'\nfrom = 's3://b/x.csv'", "line 3: datasets[0].from: expected files of this machine"),
    ("[[datasets]]\nname = 'd'\nfrom = 'file://host/x'", "line 3: datasets[0].from: expected files of this machine"),
    ("[[datasets]]\nname = 'd'\nfrm = 'x'", "line 3: datasets[0].frm: unknown key; did you mean from?"),
    ("[[datasets]]\nname = 'a/b'\nfrom = 'x'", "line 2: datasets[0].name"),
    (
        "[[datasets]]\nname = 'd'\nfrom = 'x'\n[[datasets]]\nname = 'd'\nfrom = 'y'",
        'line 5: datasets[1].name: the name "d" is already',
    ),
    ("[[models]]\nname = 'm'\ndataset = 'd'", 'line 3: models[0].dataset: no dataset is named "d"; known here: there'),
    ("[[models]]\nname = 'm'\nparams = {layout = 'x'}", "line 3: models[0].params.layout"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert expected in str(error.value)
