"""What `bench` and `tune` have in common: what is sent, what is written, and how values are spelt on the command line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fastserve.errors import ConfigError
from fastserve.loadtest.drive import SECOND_NS
from fastserve.loadtest.session import Inputs
from fastserve.loadtest.slo import parse_duration, parse_objectives

MAX_CONNECTIONS = 50_000
PRINTED_COLUMNS = 120

Command = Callable[..., Any]


class Numbers(click.ParamType[Any]):
    """Numbers with commas between."""

    name = "numbers"

    def __init__(self, kind: type, most: float) -> None:
        self._kind = kind
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As a tuple; what is none, or out of bounds, is wrong usage."""
        try:
            numbers = tuple(self._kind(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers as in 1,16,64, got {value!r}", param, ctx)
        if not all(0 < number <= self._most for number in numbers):
            self.fail(f"expected numbers above 0 and up to {self._most:,.0f}, got {value!r}", param, ctx)
        return numbers


class Time(click.ParamType[Any]):
    """`500us`, `10s`, in ns."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """In ns, a day at most."""
        try:
            ns = parse_duration(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        if ns > 86_400 * SECOND_NS:
            self.fail("expected a day at most", param, ctx)
        return ns


class Objectives(click.ParamType[Any]):
    """`p99=5ms,errors=1%`."""

    name = "objectives"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As objectives."""
        if not isinstance(value, str):
            return value
        try:
            return parse_objectives(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Header(click.ParamType[Any]):
    """`Name: value`."""

    name = "header"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Name and value."""
        name, colon, text = value.partition(":")
        fits = colon and name and all(33 <= ord(one) < 127 for one in name)
        if not fits or not all(32 <= ord(one) < 256 or one == "\t" for one in text):
            self.fail(f"expected a header as in 'X-API-Key: secret', got {value!r}", param, ctx)
        return name, text.strip()


class Dimension(click.ParamType[Any]):
    """`seq=128`."""

    name = "name=size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Name and size."""
        name, _, size = value.rpartition("=")
        if not name or not size.isdecimal():
            self.fail(f"expected a free dimension and its size as in seq=128 or ids.1=128, got {value!r}", param, ctx)
        return name, int(size)


def with_inputs(command: Command) -> Command:
    """Adds the options that say what requests hold."""
    for option in reversed(
        (
            click.option(
                "--rows", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="In each request."
            ),
            click.option(
                "--dim",
                "dims",
                type=Dimension(),
                multiple=True,
                help="Size of a free dimension, by its name or INPUT.AXIS.  [default: 1] Repeatable.",
            ),
            click.option(
                "--integers-below",
                type=click.IntRange(1, 1 << 31),
                default=2,
                show_default=True,
                help="Made-up integers are below this: vocabularies differ.",
            ),
            click.option(
                "--data",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="What to send: JSON as it is, .jsonl (a body a line), .npy or .npz (rows), else any file as it is.",
            ),
            click.option(
                "--seed", type=click.IntRange(0, 1 << 62), default=0, show_default=True, help="Of inputs and arrivals."
            ),
        )
    ):
        command = option(command)
    return command


def with_files(command: Command) -> Command:
    """Adds the options that say where everything is written."""
    html = click.option("--html", "html_file", type=click.Path(dir_okay=False), help="Write a page with curves there.")
    json = click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, allow_dash=True),
        help="Write everything there; - is standard output.",
    )
    return json(html(command))


def inputs_of(given: dict[str, Any], **more: Any) -> Inputs:
    """What to send, as the options say; `more`: what only one of the commands has."""
    values = {name: given[name] for name in ("protocol", "model", "data", "rows", "integers_below", "seed")}
    return Inputs(**{**values, "dims": dict(given["dims"]), **more})


def bar(console: Console) -> Progress:
    """Progress, where somebody sees it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def console_for(json_file: str | None) -> Console:
    """Standard output, or standard error where that is for JSON; as wide as the table where nobody looks."""
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PRINTED_COLUMNS
    return console


def write(given: dict[str, Any], found: msgspec.Struct, page: Callable[[], str]) -> None:
    """The files that were asked for. Raises ConfigError."""
    try:
        if given["json_file"]:
            encoded = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
            with click.open_file(given["json_file"], "wb") as file:
                file.write(encoded)
        if given["html_file"]:
            Path(given["html_file"]).write_text(page(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None
