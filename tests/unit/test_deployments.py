"""The recipes in examples/: the unit is one to systemd, the container runs as nobody with a health check that works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastserve.config import ServerConfig
from fastserve.config.options import OPTIONS
from fastserve.server import admin
from fastserve.server.ending import GRACE_S

EXAMPLES = Path(__file__).parents[2] / "examples"
UNIT = EXAMPLES / "systemd" / "fastserve.service"
DOCKERFILE = (EXAMPLES / "container" / "Dockerfile").read_text()
DEPLOYMENT: dict[str, Any] = yaml.safe_load((EXAMPLES / "container" / "kubernetes.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
VARIABLES = {option.variable for option in OPTIONS.values()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="takes systemd-analyze")
def test_the_unit_is_one(tmp_path: Path):
    script = str(Path(sys.executable).parent / "fastserve")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/fastserve/bin/fastserve", script))
    told = subprocess.run(["systemd-analyze", "verify", copy], check=False, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_the_unit_may_little():
    text = UNIT.read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes", "CapabilityBoundingSet=\n"):
        assert line in text
    # Threads stand back by their niceness, which is one of systemd's @resources.
    assert "~@privileged\n" in text


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the last stage, in order."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    last = max(index for index, line in enumerate(lines) if line[0] == "FROM")
    return [(line[0], line[1]) for line in lines[last:]]


def test_the_container_runs_as_nobody_and_is_asked_for_its_health():
    found = dict(instructions())
    assert re.fullmatch(r"\d+:\d+", found["USER"])
    assert not found["USER"].startswith("0")
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert "/livez" in found["HEALTHCHECK"]
    assert ":latest" not in DOCKERFILE
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim-bookworm"] * 2
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_there_is_time_to_drain():
    (drained_ms,) = re.findall(r"FASTSERVE_DRAIN_TIMEOUT_MS=(\d+)", DOCKERFILE)
    (killed_s,) = re.findall(r"--stop-timeout (\d+)", DOCKERFILE)
    assert int(killed_s) * 1000 > int(drained_ms) + GRACE_S * 1000
    (unit_s,) = re.findall(r"^TimeoutStopSec=(\d+)", UNIT.read_text(), re.MULTILINE)
    assert int(unit_s) * 1000 > ServerConfig().drain_timeout_ms + GRACE_S * 1000


def test_variables_are_options():
    told = set(re.findall(r"FASTSERVE_[A-Z_]+", DOCKERFILE)) | {one["name"] for one in POD["containers"][0]["env"]}
    assert told
    assert told <= VARIABLES


def test_the_deployment_asks_paths_that_are_there_and_may_little():
    (container,) = POD["containers"]
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"/startupz", "/readyz", "/livez"} <= set(admin.PATHS)
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsNonRoot"]
    values = {one["name"]: int(one["value"]) for one in container["env"]}
    drained_s = (values["FASTSERVE_DRAIN_DELAY_MS"] + values["FASTSERVE_DRAIN_TIMEOUT_MS"]) / 1000
    assert POD["terminationGracePeriodSeconds"] > drained_s
