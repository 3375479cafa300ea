"""What `make audit` makes of what pip-audit says: silence is no good news."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.audit.__main__ import main, verdict

HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "description": "", "aliases": []}


def package(name: str, *holes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": list(holes)}


SKIPPED = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited"}
MANY = [package(f"p{i}") for i in range(9)]


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([*MANY, SKIPPED], 0, "9 packages checked, nothing is known; not checked: ours"),
        ([*MANY, package("bad", HOLE)], 1, "bad 1.0: PYSEC-1 (fixed in 2.0)"),
        ([*MANY, {**package("bad", {**HOLE, "fix_versions": []})}], 1, "no version yet"),
        ([package("one"), *[SKIPPED] * 9], 2, "offline? 9 of 10 packages were not checked"),
    ],
)
def test_what_is_known_decides(packages: list[dict[str, Any]], code: int, said: str):
    got, lines = verdict(json.dumps({"dependencies": packages, "fixes": []}), "")
    assert got == code
    assert said in lines[0]


def test_without_an_answer_nothing_was_checked():
    got, lines = verdict("", "Traceback\nConnectionError: nobody there")
    assert got == 2
    assert "nothing was checked" in lines[0]
    assert "ConnectionError" in lines[0]


# --- a database that is a file


def record(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": [*events]}]}
    return {"id": f"OSV-{name}", "affected": [{**affected, **more.pop("affected", {})}], **more}


def audited(folder: Path, packages: dict[str, str], records: list[dict[str, Any]], *, zipped: bool = True) -> int:
    """The exit code of the whole command."""
    for name, version in packages.items():
        info = folder / "site-packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    database = folder / ("all.zip" if zipped else "all")
    if zipped:
        with zipfile.ZipFile(database, "w") as file:
            for number, one in enumerate(records):
                file.writestr(f"{number}.json", json.dumps(one))
    else:
        database.mkdir()
        for number, one in enumerate(records):
            (database / f"{number}.json").write_text(json.dumps(one))
    return main(["--database", str(database), "--installed", str(folder / "site-packages")])


OLD = [{"introduced": "0"}, {"fixed": "1.5"}]
BOTH = {"good": "2.0", "Some_Thing": "1.4.9"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("events", "more", "code"),
    [
        (OLD, {}, 1),
        ([{"introduced": "0"}, {"fixed": "1.4.9"}], {}, 0),
        ([{"introduced": "1.4.9"}], {}, 1),
        ([{"introduced": "1.5"}], {}, 0),
        ([{"introduced": "0"}, {"last_affected": "1.4.9"}], {}, 1),
        ([{"introduced": "0"}, {"last_affected": "1.4.8"}], {}, 0),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.4"}, {"fixed": "1.10"}], {}, 1),
        ([{"fixed": "1.10"}, {"introduced": "1.4rc1"}], {}, 1),
        ([{"introduced": "9"}], {"affected": {"versions": ["1.4.9"]}}, 1),
        (OLD, {"withdrawn": "2026-01-01T00:00:00Z"}, 0),
        (OLD, {"affected": {"package": {"ecosystem": "npm", "name": "some-thing"}}}, 0),
    ],
)
def test_a_database_that_is_a_file_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], events: Any, more: Any, code: int, zipped: bool
):
    others = [record("good", {"introduced": "0"}, {"fixed": "1.0"}), record("not-here", {"introduced": "0"})]
    assert audited(tmp_path, BOTH, [*others, record("some.thing", *events, **more)], zipped=zipped) == code
    printed = capsys.readouterr()
    if code:
        fixed = ", ".join(event["fixed"] for event in events if "fixed" in event) or "no version yet"
        assert printed.err == f"some-thing 1.4.9: OSV-some.thing (fixed in {fixed})\n"
    else:
        assert printed.out == "2 packages checked, nothing is known; not checked: none\n"


def test_a_database_that_is_none_is_no_good_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert audited(tmp_path, BOTH, []) == 2
    assert "2 of 2 packages were not checked" in capsys.readouterr().err
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    for wrong in ("broken.zip", "nowhere.zip"):
        assert main(["--database", str(tmp_path / wrong), "--installed", str(tmp_path / "site-packages")]) == 2
        assert wrong in capsys.readouterr().err
