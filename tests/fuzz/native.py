"""The native targets: tests/fuzz/NAME.cpp over the kernels of ext/*.hpp, which know no Python."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TARGETS = ("json_tensor", "strings", "float_text")
FLAGS = ["-std=c++17", "-g", "-O1", "-fno-sanitize-recover=undefined", f"-I{ROOT / 'ext'}", "-w"]
# The tables of float_text.hpp are computed by the compiler; clang gives up sooner than gcc.
CLANG = ["-fconstexpr-steps=1000000000"]
WITH_FUZZER, WITHOUT = "-fsanitize=fuzzer,address,undefined", "-fsanitize=address,undefined"
DICTIONARIES = {"json_tensor": HERE / "json.dict", "strings": HERE / "json.dict"}


def compiler() -> str | None:
    """clang++ with libFuzzer; None where there is none."""
    return shutil.which("clang++")


def fuzz(target: str, folder: Path, inputs: Path, seconds: int) -> bool:
    """Whether all was well."""
    program = build(target, folder)
    options = [f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    options += [f"-dict={DICTIONARIES[target]}"] if target in DICTIONARIES else []
    return subprocess.run([program, *options, inputs], check=False).returncode == 0


def merge(target: str, into: Path, inputs: Path) -> None:
    """The fewest inputs that go all the ways."""
    into.mkdir(parents=True)
    subprocess.run([build(target, into.parent), "-merge=1", into, inputs], check=True, capture_output=True)


def build(target: str, folder: Path) -> Path:
    """The target with its fuzzer."""
    clang = compiler()
    if clang is None:
        raise SystemExit("native targets take clang with libFuzzer: apt-get install clang")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder.absolute() / "fuzzer"
    subprocess.run([clang, *FLAGS, *CLANG, WITH_FUZZER, HERE / f"{target}.cpp", "-o", program], check=True)
    return program


def replay(
    target: str, folder: Path, files: Sequence[Path], folder_of_sources: Path = HERE, threads: bool = False
) -> "subprocess.CompletedProcess[str]":
    """The target over these files, built by whichever compiler there is, under the sanitizers.

    `threads`: on several at once, under ThreadSanitizer.
    """
    program = folder / target
    gxx = shutil.which("g++")
    command = [gxx] if gxx is not None else [shutil.which("clang++") or "c++", *CLANG]
    sources = [folder_of_sources / f"{target}.cpp", HERE / ("threads.cpp" if threads else "replay.cpp")]
    sanitizers = ["-fsanitize=thread", "-pthread"] if threads else [WITHOUT]
    subprocess.run([*command, *FLAGS, "-O0", *sanitizers, *sources, "-o", program], check=True)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "LD_PRELOAD": ""}
    return subprocess.run([program, *files], check=False, capture_output=True, text=True, env=environment)
