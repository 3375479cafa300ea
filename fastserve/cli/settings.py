"""The options of `serve` and `demo`: one for each field of the configuration, with its bounds, default and sentence."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from fastserve.config import OPTIONS, Option
from fastserve.errors import ConfigError

ON_THE_COMMAND_LINE = [option for option in OPTIONS.values() if option.name != "path"]

KIND_NAMES = {int: "integer", float: "number", bool: "true|false"}


class FieldValue(click.ParamType[Any]):
    """What the field takes."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = _kind_name(option)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click's signature
        """As it is typed: rsgi|asgi, not RSGI|ASGI."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The field's value; out of bounds is wrong usage (exit code 2)."""
        if not isinstance(value, str):
            return value
        try:
            converted = self.option.convert(value, self.option.flag)
        except ConfigError as error:
            self.fail(str(error).removeprefix(f"{self.option.flag}: "), param, ctx)
        return converted[0] if self.option.many and converted else converted


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option of every field, in the order of the fields."""
    for option in reversed(ON_THE_COMMAND_LINE):
        command = click.option(
            option.flag,
            option.name,
            type=FieldValue(option),
            multiple=option.many,
            help=_help(option),
        )(command)
    return command


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line set, for `load_config`."""
    return {option.name: given[option.name] for option in ON_THE_COMMAND_LINE}


def _help(option: Option) -> str:
    shown = str(option.default).lower() if isinstance(option.default, bool) else option.default
    default = "" if option.default in (None, ()) else f"  [default: {shown}]"
    repeat = " Repeatable." if option.many else ""
    return f"{option.description}{repeat}  [env: {option.variable}]{default}"


def _kind_name(option: Option) -> str:
    """`rsgi|asgi`, `int`, `file`: what help shows."""
    if option.is_path:
        return "directory" if option.name.endswith("_dir") else "file"
    return "|".join(option.choices) or KIND_NAMES.get(option.kind.__origin__, "text")
