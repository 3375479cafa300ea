"""`make fuzz`: runs one target, or all, for as long as one likes, and keeps what it found.

    python -m tests.fuzz [TARGET ...] [--seconds 60] [--keep] [--sanitized]

Native targets (tests/fuzz/*.cpp) are built by clang with libFuzzer, AddressSanitizer and UBSan. Those of the Python layer
(targets.py) run under atheris, which follows coverage, where it is installed; without it, or with --sanitized (the native
modules under the sanitizers, see `make fuzz-sanitized`), inputs of the corpus are changed at random.
What fails is left in build/fuzz/TARGET/ as `crash-...`: fix it, and put it into the corpus as `found-...` with --keep.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import corpus, native
from tests.fuzz.covered import MAX_LENGTH
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, Target

BUILD = Path("build") / "fuzz"
MAX_KEPT = 400


def main() -> int:
    """Exit 1 where something was found."""
    arguments = read_arguments()
    wrong = [target for target in arguments.targets or [*native.TARGETS, *TARGETS] if not fuzz(target, arguments)]
    if wrong:
        print(f"found something: {', '.join(wrong)}; see {BUILD}", file=sys.stderr)
    return 1 if wrong else 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join([*native.TARGETS, *TARGETS]))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="keep what found new ways through the code")
    parser.add_argument("--sanitized", action="store_true", help="change the corpus at random, without atheris")
    return parser.parse_args()


def fuzz(target: str, arguments: argparse.Namespace) -> bool:
    """Whether all was well."""
    folder = BUILD / target
    inputs = folder / "corpus"
    corpus.unpack(target, inputs)
    for name, data in corpus.named(seeds(target)).items():
        (inputs / name).write_bytes(data)
    print(f"{target}: {arguments.seconds} s, from {len(list(inputs.iterdir()))} inputs", flush=True)
    if target in native.TARGETS:
        well = native.fuzz(target, folder, inputs, arguments.seconds)
    elif arguments.sanitized or not has_atheris():
        well = run_plainly(target, TARGETS[target], folder, inputs, arguments.seconds)
    else:
        command = [sys.executable, "-m", "tests.fuzz.covered", target, str(folder), str(arguments.seconds)]
        well = subprocess.run(command, check=False).returncode == 0
    if arguments.keep:
        keep(target, folder, inputs)
    return well


def has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def run_plainly(target: str, run: Target, folder: Path, inputs: Path, seconds: int) -> bool:
    """Inputs of the corpus, changed at random; what fails is written down."""
    known = [path.read_bytes() for path in sorted(inputs.iterdir())] or [b""]
    seed = int(os.environ.get("FASTSERVE_FUZZ_SEED", str(time.time_ns())))
    print(f"{target}: FASTSERVE_FUZZ_SEED={seed}", flush=True)
    rand = random.Random(seed)
    end, count = time.monotonic() + seconds, 0
    last = folder / "last"  # if the process ends here, this is what ended it
    while time.monotonic() < end:
        data = changed(rand, known)
        last.write_bytes(data)
        count += 1
        try:
            run(data)
        except Exception as error:
            path = folder / f"crash-{count}"
            path.write_bytes(data)
            print(f"{target}: {type(error).__name__}: {error}: {path}", file=sys.stderr)
            return False
    print(f"{target}: {count} inputs", flush=True)
    return True


def changed(rand: random.Random, known: list[bytes]) -> bytes:
    """One input with a few bytes replaced, taken out, doubled, or taken from another one."""
    data = bytearray(rand.choice(known))
    for _ in range(rand.choice((1, 1, 2, 4, 8))):
        at = rand.randrange(len(data) + 1)
        size = min(rand.choice((1, 1, 2, 4, 8, 32)), len(data) - at)
        match rand.randrange(6):
            case 0:
                data[at : at + size] = rand.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                other = rand.choice(known)
                start = rand.randrange(len(other) + 1)
                data[at : at + size] = other[start : start + 32]
            case 4 if at < len(data):
                data[at] ^= 1 << rand.randrange(8)
            case _:
                data[at:at] = rand.choice(
                    (b"0", b"-1", b"[", b"]", b'"', b"\\u", b"\0", b"\xff\xff\xff\xff", b"1e400", b"{}")
                )
    return bytes(data[:MAX_LENGTH])


def keep(target: str, folder: Path, inputs: Path) -> None:
    """The smallest inputs that go all the ways that the corpus goes, as far as a fuzzer can tell; crashes as `found-...`."""
    smaller = folder / "merged"
    shutil.rmtree(smaller, ignore_errors=True)
    if target in native.TARGETS:
        native.merge(target, smaller, inputs)
    chosen = sorted((smaller if smaller.exists() else inputs).iterdir(), key=lambda path: path.stat().st_size)
    found = {name: data for name, data in corpus.kept(target).items() if name.startswith("found-")}
    for path in folder.glob("crash-*"):
        data = path.read_bytes()
        found[f"found-{next(iter(corpus.named([data])), path.name)}"] = data
    seen = [path.read_bytes() for path in chosen if not path.name.startswith("found-")]
    corpus.keep(target, {**corpus.named(seen[:MAX_KEPT]), **found})


if __name__ == "__main__":
    sys.exit(main())
