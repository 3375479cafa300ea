"""What `pip install '.[EXTRA]'` brings beside fastserve itself, a requirement a line: python tests/support/needed.py EXTRA

pip tells nobody without building the package first; so the Makefile installs these while the native code is compiled.
`build`: what building the package takes. Nothing but Python is needed.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def needed(pyproject: dict[str, Any], extra: str) -> set[str]:
    """Own dependencies and those of the extra, and of the extras that it names."""
    if extra == "build":
        return set(pyproject["build-system"]["requires"])
    project = pyproject["project"]
    own = re.compile(re.escape(project["name"]) + r"\[(.*)\]")

    def expanded(requirements: Iterable[str]) -> Iterator[str]:
        for requirement in requirements:
            if named := own.fullmatch(requirement):
                for name in named[1].split(","):
                    yield from expanded(project["optional-dependencies"][name])
            else:
                yield requirement

    return {*project["dependencies"], *expanded(project["optional-dependencies"][extra])}


if __name__ == "__main__":
    print(*sorted(needed(tomllib.loads(PYPROJECT.read_text()), sys.argv[1])), sep="\n")
