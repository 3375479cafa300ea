"""`fastserve` with the door that needs no event loop switched off, to measure what that door is worth.

`python -m bench.load.coroutine serve ...`: the same command line.
"""

from fastserve.cli.main import main
from fastserve.server import worker


def unsupported() -> str:
    """Always a reason."""
    return "switched off by bench.load"


if __name__ == "__main__":
    worker.unsupported = unsupported
    main()
