"""`fastserve` as it is where Granian is not the one that the direct door knows: everything through coroutines."""

from fastserve.cli.main import main
from fastserve.server import worker

COROUTINES_ONLY = ("python", "-m", "tests.support.coroutine_serve", "serve")
"""As the `program` of a ServerProcess."""

if __name__ == "__main__":
    worker.GRANIAN_VERSION = "another"
    main()
