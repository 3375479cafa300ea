"""Vulnerabilities from a database that is a file: OSV's records, as https://osv.dev gives them away for PyPI in one zip.

Thread: any. Memory: one record at a time, and what is found.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

Record = Mapping[str, Any]


def normal(name: str) -> str:
    """A package's name as all spellings of it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(folder: Path) -> dict[str, str]:
    """Versions by name, of all that is in a folder of site-packages."""
    return {normal(one.metadata["Name"]): one.version for one in distributions(path=[str(folder)])}


def records(database: Path) -> Iterator[Record]:
    """Of a zip or a folder. Raises ValueError, OSError, BadZipFile for what is none."""
    if database.is_dir():
        for path in sorted(database.rglob("*.json")):
            yield json.loads(path.read_bytes())
        return
    with zipfile.ZipFile(database) as file:
        for name in file.namelist():
            if name.endswith(".json"):
                yield json.loads(file.read(name))


def asked(packages: Mapping[str, str], database: Path) -> dict[str, Any]:
    """What pip-audit would say: each package with its holes. Without a record of PyPI in the database, all are skipped."""
    holes: dict[str, list[dict[str, Any]]] = {name: [] for name in packages}
    seen = 0
    for record in records(database):
        for affected in record.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI":
                continue
            seen += 1
            name = normal(package["name"])
            if name in packages and not record.get("withdrawn") and is_affected(packages[name], affected):
                holes[name].append({"id": record["id"], "fix_versions": fixes(affected)})
    if not seen:
        reason = "the database has no record of PyPI"
        return {"dependencies": [{"name": name, "skip_reason": reason} for name in packages]}
    return {
        "dependencies": [
            {"name": name, "version": version, "vulns": holes[name]} for name, version in sorted(packages.items())
        ]
    }


def is_affected(version: str, affected: Record) -> bool:
    """Whether that version is one of those that a record names, or within one of its ranges."""
    if version in affected.get("versions", ()):
        return True
    ranges = [one["events"] for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    return any(is_within(Version(version), events) for events in ranges)


def is_within(version: Version, events: list[dict[str, str]]) -> bool:
    """Whether the last event at or before that version leaves it affected; `last_affected` ends behind its version."""
    inside = False
    for event in sorted(events, key=lambda event: (_at(event), "introduced" in event)):
        ((kind, _),) = event.items()
        at = _at(event)
        if at > version or (kind == "last_affected" and at == version):
            break
        inside = kind == "introduced"
    return inside


def fixes(affected: Record) -> list[str]:
    """Versions without the hole."""
    events = [event for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM" for event in one["events"]]
    return [event["fixed"] for event in events if "fixed" in event]


def _at(event: Mapping[str, str]) -> Version:
    ((_, version),) = event.items()
    try:
        return Version(version)
    except InvalidVersion:  # of an old scheme: before all others
        return Version("0")
