"""Official clients of other servers that must work unmodified, each in an environment of its own.

They want other versions of pandas and protobuf than ours; everything else they find in ours. `python -m tests.support.sdks`
makes all of them (the Makefile does, before the tests); a test that needs one asks for it, and it is made if it is not there.
"""

import fcntl
import subprocess
import sys
import sysconfig
from pathlib import Path

from msgspec import Struct

FOLDER = Path(sys.prefix) / "sdks"


class Sdk(Struct, frozen=True):
    """What is installed; `beside`: an environment whose packages are found, too."""

    name: str
    requirement: str
    beside: tuple["Sdk", ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is."""
        return FOLDER / self.name

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"


ARIZE_7 = Sdk("arize-7", "arize==7.52.0")
ARIZE_8 = Sdk("arize-8", "arize==8.61.0", (ARIZE_7,))
ALL = (ARIZE_7, ARIZE_8)


def python_of(sdk: Sdk) -> Path:
    """Its interpreter; the environment is made where it is not there, by one process of those that want it."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for one in (*sdk.beside, sdk):
            _make(one)
    return sdk.folder / "bin" / "python"


def _make(sdk: Sdk) -> None:
    made = sdk.folder / "made"
    if made.exists() and made.read_text() == sdk.requirement:
        return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(sdk.folder)], check=True)
    found = [*(one.packages for one in sdk.beside), Path(sysconfig.get_path("purelib"))]
    (sdk.packages / "ours.pth").write_text("\n".join(map(str, found)) + "\n")
    # Not compiled: most of it is never imported.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--disable-pip-version-check",
        "--python",
        str(sdk.folder / "bin" / "python"),
    ]
    subprocess.run([*pip, "install", "--no-compile", sdk.requirement], check=True)
    made.write_text(sdk.requirement)


if __name__ == "__main__":
    for each in ALL:
        python_of(each)
