"""`fastserve` with all of its work on the event loop, as a server without executor threads has it: measured against.

`python -m bench.load.on_loop serve ...`: the same command line. The limits are changed before anything copies them.
"""

from fastserve.engine import short
from fastserve.http import site

NEVER = 1 << 61

site.OFFLOAD_BYTES = NEVER
short.INLINE_NS = NEVER

from bench.load.coroutine import unsupported  # noqa: E402 - after the limits
from fastserve.cli.main import main  # noqa: E402
from fastserve.server import worker  # noqa: E402

if __name__ == "__main__":
    worker.unsupported = unsupported
    main()
