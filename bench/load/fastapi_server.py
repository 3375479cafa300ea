"""Serves `bench.load.fastapi_app` with uvicorn or with Granian, one worker, as fast as their options go.

`python -m bench.load.fastapi_server uvicorn|granian MODELS PORT`; the packages are those of the extra `bench`.
"""

import os
import sys

APP = "bench.load.fastapi_app:app"
HOST = "127.0.0.1"


def main(server: str, models: str, port: str) -> None:
    """Serve until SIGTERM."""
    os.environ["BENCH_MODELS"] = models
    if server == "uvicorn":
        import uvicorn

        uvicorn.run(
            APP, host=HOST, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning"
        )
        return
    from granian import Granian
    from granian.constants import Interfaces, Loops

    Granian(APP, address=HOST, port=int(port), interface=Interfaces.ASGI, loop=Loops.uvloop, log_access=False).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
