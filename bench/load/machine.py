"""Where and with what the figures were taken: machine, versions, commit, date; and how busy the machine was besides."""

import datetime
import os
import platform
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from fastserve.loadtest.neighbours import DISTURBED_SHARE, busy_s

PACKAGES = ("granian", "uvloop", "onnxruntime", "numpy", "msgspec", "orjson", "pysimdjson", "fastapi", "uvicorn")
CORES = 2
"""All figures are for two cores, generator included; on a larger machine everything is kept on two of them."""

LOOK_S = 0.1


class Machine(Struct, kw_only=True):
    """What a figure depends on besides the code."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    packages: dict[str, str]
    generator: str


class Moment(Struct, kw_only=True):
    """When, and of which code."""

    date: str
    commit: str
    changed_files: int
    """Tracked files of the package or its native sources that differ from the commit."""


def here(generator: str) -> Machine:
    """This machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_gib, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=_installed(),
        generator=generator,
    )


def _installed() -> dict[str, str]:
    """The versions of what is there: not all of it need be (the extra `bench`)."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> Moment:
    """This moment."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/fastserve", ":/ext")
    return Moment(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_git("rev-parse", "--short=10", "HEAD").strip(),
        changed_files=len(changed.splitlines()),
    )


def keep_to_two_cores() -> None:
    """This process and all that it starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


class Patience:
    """Waits for quiet moments; a machine that never is quiet is measured as it is once `left_s` is used up."""

    def __init__(self, left_s: float) -> None:
        self._left_s = left_s

    def wait(self) -> None:
        """Return when little else runs. Whoever calls has nothing running himself."""
        while self._left_s > 0:
            busy = busy_s()
            time.sleep(LOOK_S)
            if (busy_s() - busy) / (LOOK_S * CORES) <= DISTURBED_SHARE:
                return
            self._left_s -= LOOK_S


def _git(*arguments: str) -> str:
    told = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return told.stdout
