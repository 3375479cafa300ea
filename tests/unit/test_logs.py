"""Where log lines go, and what they look like."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from fastserve import logs
from fastserve.errors import ConfigError


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger = logging.getLogger("fastserve")
    before = ([*logger.handlers], logger.level, logger.propagate)
    yield
    for handler in [*logger.handlers]:
        if handler not in before[0]:
            logger.removeHandler(handler)
            handler.close()
    logger.handlers, logger.level, logger.propagate = before[0], before[1], before[2]


def test_lines_for_people_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("fastserve.engine").warning("model %s: %s", "a", "gone")
    captured = capsys.readouterr()
    assert captured.err.endswith(" WARNING model a: gone\n")
    assert captured.out == ""


def test_json_lines_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(str(tmp_path / "new" / "log"))
    logging.getLogger("fastserve.engine").info('two\nlines "quoted"')
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("fastserve").exception("failed")
    first, second = (json.loads(line) for line in (tmp_path / "new/log/fastserve.log").read_text().splitlines())
    assert first["message"] == 'two\nlines "quoted"'
    assert (first["level"], first["logger"]) == ("INFO", "fastserve.engine")
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert "traceback" not in first
    assert "ValueError: x" in second["traceback"]


def test_setting_up_again_replaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(str(tmp_path))
    logs.set_up()
    logging.getLogger("fastserve").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert (tmp_path / "fastserve.log").read_text() == ""


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"the log cannot be written to .*file/log: Not a directory"):
        logs.set_up(str(tmp_path / "file" / "log"))


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(level="WARNING")
    logging.getLogger("fastserve").info("quiet")
    assert capsys.readouterr().err == ""


def test_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    logs.set_up(str(tmp_path))
    log = logging.getLogger("fastserve")
    log.info("one")
    (tmp_path / "fastserve.log").rename(tmp_path / "fastserve.log.1")
    log.info("two")
    assert "two" in (tmp_path / "fastserve.log").read_text()
    assert sys.stderr is not None


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (logs.Choice(), "IWE"),
        (logs.Choice(verbose_level=1), "DIWE"),
        (logs.Choice(info=False), "WE"),
        (logs.Choice(warning=False), "IE"),
        (logs.Choice(warning=False, error=False, verbose_level=2), "DI"),
        (logs.Choice(info=False, warning=False, error=False), ""),
    ],
)
def test_what_is_chosen_is_written(choice: logs.Choice, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.choose(choice)
    logger = logging.getLogger("fastserve.engine")
    for say in (logger.debug, logger.info, logger.warning, logger.error):
        say("x")
    assert "".join(line.split()[2][0] for line in capsys.readouterr().err.splitlines()) == written
    logs.choose(logs.Choice())
    logger.debug("not this")
    logger.info("this")
    assert capsys.readouterr().err.endswith(" INFO    this\n")


def test_times_for_people_may_be_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.choose(logs.Choice(iso_times=True))
    logging.getLogger("fastserve").info("x")
    time = capsys.readouterr().err.split()[0]
    assert datetime.fromisoformat(time).utcoffset() is not None


def test_the_level_at_start_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(level="WARNING")
    logs.choose(logs.Choice(verbose_level=1))
    logs.choose(logs.Choice())
    logging.getLogger("fastserve").info("x")
    assert capsys.readouterr().err == ""


def test_the_files_name_is_told_and_its_folder_is_not(tmp_path: Path) -> None:
    logs.set_up()
    assert logs.file_name() == ""
    logs.set_up(str(tmp_path))
    assert logs.file_name() == "fastserve.log"
