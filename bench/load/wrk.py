"""wrk as a function: drive one URL with one body, get the figures of what was answered.

Thread: the caller's, which waits. One wrk thread: the generator shares the two cores with what it measures.
"""

import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

SCRIPT = Path(__file__).with_name("post.lua")
MARK = "FIGURES "
GRACE_S = 20.0


class Figures(Struct, kw_only=True):
    """One drive. `answers`: 2xx and 3xx only; what was refused or lost stands in `errors` and nowhere else."""

    answers: int
    errors: int
    per_s: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    cpu_us: float = 0.0
    """CPU time of the server's processes for one answer, user and system."""
    others_cpu: float = 0.0
    """Share of the machine's CPU time that went to neither server nor generator: how disturbed the figures are."""
    disturbed: bool = False
    """Whether that was too much; see `DISTURBED_SHARE`."""


class Told(Struct):
    """What post.lua prints."""

    requests: int
    duration_us: int
    refused: int
    connect: int
    read: int
    write: int
    timeout: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


class Drive:
    """One wrk that runs."""

    def __init__(self, url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float) -> None:
        command = [needed(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        command += ["-s", str(SCRIPT), url, "--", str(body)]
        self._limit_s = seconds + GRACE_S
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def figures(self) -> Figures:
        """Wait for the end. Raises RuntimeError where wrk itself failed."""
        try:
            output, _ = self._process.communicate(timeout=self._limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
        return parse(output)


def parse(output: str) -> Figures:
    """The figures in wrk's output."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise RuntimeError(f"wrk gave no figures:\n{output}")
    told = msgspec.json.decode(line.removeprefix(MARK), type=Told)
    # wrk counts a refusal as a request, and its time as a latency; a lost connection counts as neither.
    answers = told.requests - told.refused
    return Figures(
        answers=answers,
        errors=told.refused + told.connect + told.read + told.write + told.timeout,
        per_s=answers / (told.duration_us / 1e6),
        p50_us=told.p50_us,
        p90_us=told.p90_us,
        p99_us=told.p99_us,
        max_us=told.max_us,
    )


def generators_cpu_s() -> float:
    """CPU time of all generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def needed() -> str:
    """Where wrk is. Ends the program where it is not."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("bench.load needs wrk: apt-get install wrk")
    return program


def version() -> str:
    """wrk's own words."""
    told = subprocess.run([needed(), "-v"], capture_output=True, text=True, check=False)
    return (told.stdout or told.stderr).splitlines()[0].split("[")[0].strip()
