"""Serves one of the bare echoes with exactly the options that `fastserve serve` gives Granian.

`python -m bench.load.echo rsgi|asgi|sink PORT`. Thread: the main one waits; Granian's worker serves.
"""

import sys

from granian import Granian

from fastserve.config import ServerConfig
from fastserve.server.launch import granian_options


def main(interface: str, port: str) -> None:
    """Serve until SIGTERM."""
    config = ServerConfig(port=int(port), interface="asgi" if interface == "asgi" else "rsgi")
    Granian(f"bench.load.echo_{interface}:app", **granian_options(config)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
