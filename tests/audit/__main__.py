"""`make audit`: what a user's installation consists of (SBOM), and which of it is known to be vulnerable.

    python -m tests.audit [--extras all] [--folder build/audit] [--database all.zip]

The wheel is installed with its extras into an environment of its own, so that what only tests need is not looked at. Exit 0:
nothing is known; 1: something is; 2: the database could not be asked, or knows too little of what is installed.
Without a network: `--database` is OSV's records for PyPI, a zip or a folder; `--installed` a folder of site-packages that is
there already, of which no SBOM is made.
"""

import argparse
import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_UNKNOWN = 0.2
"""Of the packages, the part that may be unknown to the database: ours is, and little else should be."""


def main(given: Sequence[str] | None = None) -> int:
    """Install, list, ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit")
    parser.add_argument("--wheel", type=Path, help="default: the one in dist/")
    parser.add_argument("--extras", default="all")
    parser.add_argument("--folder", type=Path, default=Path("build") / "audit")
    parser.add_argument("--database", type=Path, help="OSV's records: a zip or a folder; default: pip-audit asks")
    parser.add_argument("--installed", type=Path, help="site-packages to look at, instead of the wheel's")
    arguments = parser.parse_args(given)
    packages = arguments.installed or installed_wheel(arguments.wheel, arguments.extras, arguments.folder)
    told, complaints = ask(packages, arguments.database, arguments.folder / "tools")
    code, lines = verdict(told, complaints)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def installed_wheel(wheel: Path | None, extras: str, folder: Path) -> Path:
    """The site-packages of an environment with the wheel and nothing else; its SBOM stands beside it."""
    found = wheel or next(iter(sorted(Path("dist").glob("fastserve-*.whl"))))
    environment, tools = folder / "installed", folder / "tools"
    install(environment, f"{found}[{extras}]")
    install(tools, "pip-audit", "cyclonedx-bom")
    sbom = folder / "sbom.cdx.json"
    run([tools / "bin" / "cyclonedx-py", "environment", environment / "bin" / "python", "--of", "JSON", "-o", sbom])
    print(f"{sbom}: {len(json.loads(sbom.read_text())['components'])} components")
    return site_packages(environment)


def ask(packages: Path, database: Path | None, tools: Path) -> tuple[str, str]:
    """What is known of the packages in that folder, as pip-audit writes it; and what went wrong."""
    if database is None:
        asked = run([tools / "bin" / "pip-audit", "--path", packages, "--format", "json"], check=False)
        return asked.stdout, asked.stderr
    from tests.audit import known  # packaging, which a bare environment need not have

    try:
        return json.dumps(known.asked(known.installed(packages), database)), ""
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        return "", f"{database}: {error}"


def verdict(told: str, complaints: str) -> tuple[int, list[str]]:
    """The exit code and what to say of pip-audit's answer."""
    try:
        packages: list[dict[str, Any]] = json.loads(told)["dependencies"]
    except (ValueError, KeyError):
        last = complaints.strip().splitlines()[-1:] or ["it said nothing"]
        return 2, [f"offline? nothing was checked: the database could not be asked: {last[0][:300]}"]
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
