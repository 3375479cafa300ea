"""`make soak`: a server under load for as long as one likes: versions are swapped, clients leave, records are written.

    python -m tests.soak [--seconds 1800] [--clients 8] [--workers 1] [--interface rsgi] [--json FILE]

Exit 1 where something failed or grew: see `watch.Verdict`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.soak.run import LONG_S, soak


def main() -> int:
    """Run, tell, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=LONG_S)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--interface", default="rsgi", choices=["rsgi", "asgi"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        verdict, samples = soak(
            Path(folder),
            seconds=arguments.seconds,
            clients=arguments.clients,
            options=("--workers", str(arguments.workers), "--interface", arguments.interface),
            tell=lambda line: print(line, flush=True),
        )
    text = msgspec.json.format(msgspec.json.encode(verdict)).decode()
    print(text)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.encode({"verdict": verdict, "samples": samples}))
    problems = verdict.problems(is_long=arguments.seconds >= LONG_S)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
