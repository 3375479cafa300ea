"""Stamps tell every kind of change."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.repository.watch import stamp


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version's model file, with external data and a folder of more beside it."""
    folder = tmp_path / "a" / "1"
    (folder / "parts").mkdir(parents=True)
    for name in ("model.onnx", "model.onnx.data", "weights.bin", "parts/0"):
        (folder / name).write_bytes(b"first")
    return folder / "model.onnx"


def rewrite(path: Path) -> None:
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))


def swap(path: Path) -> None:
    """By rename, with time and size as they were."""
    seen = path.stat()
    new = path.with_name("new")
    new.write_bytes(b"other")
    os.utime(new, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    new.rename(path)


def grow(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(b"longer than it was")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, swap, grow, os.remove])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "weights.bin", "parts/0"])
def test_every_change_of_a_versions_files_shows(name: str, change: Callable[[Path], None], version: Path) -> None:
    before = stamp(version)
    assert stamp(version) == before
    change(version.parent / name)
    assert stamp(version) != before


def test_a_new_file_shows(version: Path) -> None:
    before = stamp(version)
    (version.parent / "late").touch()
    assert stamp(version) != before


def test_beside_a_single_file_only_its_own_data_counts(tmp_path: Path) -> None:
    for name in ("net.onnx", "net.onnx.data", "other.onnx"):
        (tmp_path / name).write_bytes(b"first")
    before = stamp(tmp_path / "net.onnx")
    assert [Path(file.path).name for file in before.files] == ["net.onnx", "net.onnx.data"]
    rewrite(tmp_path / "other.onnx")
    assert stamp(tmp_path / "net.onnx") == before
    rewrite(tmp_path / "net.onnx.data")
    assert stamp(tmp_path / "net.onnx") != before


def test_what_is_gone_has_no_files(version: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "a")
    assert stamp(version).files == ()
    assert stamp(tmp_path / "gone" / "net.onnx").files == ()
