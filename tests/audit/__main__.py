"""`make audit`: what a user's installation consists of (SBOM), and which of it is known to be vulnerable.

    python -m tests.audit [--extras all] [--folder build/audit]

The wheel is installed with its extras into an environment of its own, so that what only tests need is not looked at. Exit 0:
nothing is known; 1: something is; 2: the database could not be asked, or knows too little of what is installed.
"""

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_UNKNOWN = 0.2
"""Of the packages, the part that may be unknown to the database: ours is, and little else should be."""


def main() -> int:
    """Install, list, ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit")
    parser.add_argument("--wheel", type=Path, help="default: the one in dist/")
    parser.add_argument("--extras", default="all")
    parser.add_argument("--folder", type=Path, default=Path("build") / "audit")
    arguments = parser.parse_args()
    wheel = arguments.wheel or next(iter(sorted(Path("dist").glob("fastserve-*.whl"))))
    installed, tools = arguments.folder / "installed", arguments.folder / "tools"
    install(installed, f"{wheel}[{arguments.extras}]")
    install(tools, "pip-audit", "cyclonedx-bom")
    sbom = arguments.folder / "sbom.cdx.json"
    run([tools / "bin" / "cyclonedx-py", "environment", installed / "bin" / "python", "--of", "JSON", "-o", sbom])
    components = json.loads(sbom.read_text())["components"]
    print(f"{sbom}: {len(components)} components")
    asked = run([tools / "bin" / "pip-audit", "--path", site_packages(installed), "--format", "json"], check=False)
    code, lines = verdict(asked.stdout, asked.stderr)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def verdict(told: str, complaints: str) -> tuple[int, list[str]]:
    """The exit code and what to say of pip-audit's answer."""
    try:
        packages: list[dict[str, Any]] = json.loads(told)["dependencies"]
    except (ValueError, KeyError):
        last = complaints.strip().splitlines()[-1:] or ["it said nothing"]
        return 2, [f"offline? nothing was checked: pip-audit could not ask its database: {last[0][:300]}"]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    found = [
        f"{one['name']} {one['version']}: {hole['id']} (fixed in {', '.join(hole['fix_versions']) or 'no version yet'})"
        for one in packages
        for hole in one.get("vulns", [])
    ]
    if found:
        return 1, found
    if len(unknown) > MAX_UNKNOWN * len(packages):
        return 2, [
            f"offline? {len(unknown)} of {len(packages)} packages were not checked: the database does not know them"
        ]
    return 0, [
        f"{len(packages) - len(unknown)} packages checked, nothing is known; not checked: {', '.join(unknown) or 'none'}"
    ]


def install(folder: Path, *requirements: str) -> None:
    """An environment with these."""
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, "--upgrade", *requirements])


def site_packages(folder: Path) -> Path:
    return next(iter(folder.glob("lib/python3*/site-packages")))


def run(command: Sequence[str | Path], *, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*map(str, command)], check=check, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
