"""The options of `log performance` and `log drift`: one for each field of the question, with its bounds and its sentence."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
import msgspec

from fastserve.errors import InvalidRequest
from fastserve.monitor.question import LISTS, SENTENCES, Question, convert

Q = TypeVar("Q", bound=Question)


def options(kind: type[Question]) -> list[click.Parameter]:
    """An option for every field but the model."""
    hints = get_type_hints(kind, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
    return [_option(name, hints[name], defaults[name]) for name in kind.__struct_fields__ if name != "model"]


def _option(name: str, hint: Any, default: Any) -> click.Option:
    hint = next((one for one in get_args(hint) if one is not NoneType), hint) if _is_union(hint) else hint
    shown = f"  [default: {default}]" if isinstance(default, str | int | float) else ""
    return click.Option(
        [f"--{name.replace('_', '-')}"],
        type=_type(hint),
        multiple=name in LISTS,
        help=SENTENCES[name] + (" Repeatable." if name in LISTS else "") + shown,
    )


def _is_union(hint: Any) -> bool:
    return isinstance(hint, UnionType)


def _type(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) is Annotated:
        kind, meta = get_args(hint)[:2]
        if kind is int:
            return click.IntRange(meta.ge, meta.le)
        if kind is float:
            return click.FLOAT
    return click.STRING


def question(kind: type[Q], model: str, given: Mapping[str, Any]) -> Q:
    """The question of these options. Raises UsageError naming the option."""
    values = {
        name: value for name, value in given.items() if name in kind.__struct_fields__ and value not in (None, ())
    }
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    try:
        return convert({"model": model, **listed}, kind, lax=True)
    except InvalidRequest as error:
        name, colon, rest = str(error).partition(":")
        raise click.UsageError(
            f"--{name.replace('_', '-')}{colon}{rest}" if name in SENTENCES else str(error)
        ) from None
