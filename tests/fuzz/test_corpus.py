"""What fuzzers have found so far, tried again: each kept input through its target, the native ones under the sanitizers."""

import os
import shutil
from pathlib import Path

import pytest

from tests.fuzz import corpus, native
from tests.fuzz.seeds import MADE, seeds
from tests.fuzz.targets import TARGETS


def inputs(target: str) -> dict[str, bytes]:
    return {**corpus.named(seeds(target)), **corpus.kept(target)}


def test_every_target_has_somewhere_to_begin():
    assert set(MADE) == {*TARGETS, *native.TARGETS}
    assert {path.stem for path in corpus.FOLDER.glob("*.zip")} <= set(MADE)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.filterwarnings("ignore::Warning:PIL")  # of images that claim to be large; the pixels are counted by us
def test_python_layer(target: str):
    for name, data in inputs(target).items():
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"{name} of {target}: {data[:200]!r}") from error


@pytest.mark.parametrize("target", native.TARGETS)
def test_kernels_under_the_sanitizers(target: str, tmp_path: Path):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("takes a C++ compiler")
    files = []
    for name, data in inputs(target).items():
        files.append(tmp_path / name)
        files[-1].write_bytes(data)
    ended = native.replay(target, tmp_path, files)
    assert ended.returncode == 0, ended.stderr[-3000:]


ON_THREADS = native.TARGETS if os.environ.get("FASTSERVE_TEST_THREADS") else ("strings",)
"""Compiling the others takes ten seconds."""


@pytest.mark.parametrize("target", ON_THREADS)
def test_kernels_on_many_threads(target: str, tmp_path: Path):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("takes a C++ compiler")
    files = []
    for name, data in inputs(target).items():
        files.append(tmp_path / name)
        files[-1].write_bytes(data)
    ended = native.replay(target, tmp_path, files, threads=True)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_threads_that_share_badly_would_be_seen(tmp_path: Path):
    source = tmp_path / "shared.cpp"
    source.write_text(
        "#include <cstdint>\n#include <cstddef>\nstatic size_t seen = 0;\n"
        'extern "C" int LLVMFuzzerTestOneInput(const uint8_t*, size_t size) { seen += size; return 0; }\n'
    )
    files = [tmp_path / str(number) for number in range(50)]
    for file in files:
        file.write_bytes(b"x")
    ended = native.replay("shared", tmp_path, files, folder_of_sources=tmp_path, threads=True)
    assert ended.returncode != 0
    assert "data race" in ended.stderr


def test_a_broken_kernel_would_be_seen(tmp_path: Path):
    source = tmp_path / "broken.cpp"
    source.write_text(
        "#include <cstdint>\n#include <cstddef>\n#include <vector>\n"
        'extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {\n'
        "    std::vector<uint8_t> copy(data, data + size);\n    return copy.data()[size] == 7;\n}\n"
    )
    (tmp_path / "one").write_bytes(b"x")
    ended = native.replay("broken", tmp_path, [tmp_path / "one"], folder_of_sources=tmp_path)
    assert ended.returncode != 0
    assert "heap-buffer-overflow" in ended.stderr
