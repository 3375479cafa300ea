"""The fields of `[server]` and `[repository]` as options: their names on the command line and in the environment."""

import typing
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import Meta, Struct

from fastserve.config.fields import PATH_FIELD, RepositoryConfig, ServerConfig
from fastserve.errors import ConfigError

ENVIRONMENT_PREFIX = "FASTSERVE_"
CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
PATH_VARIABLE = ENVIRONMENT_PREFIX + "PATH"
KUBERNETES_LINK = "tcp://"  # a Service named "fastserve" sets FASTSERVE_PORT=tcp://10.0.0.1:80 in every container


class Option(Struct, frozen=True):
    """One field that is also an option of the command line and a variable of the environment.

    `section`: the attribute of `Config` that it belongs to. `name`: the option's, with underscores. `kind`: its
    annotated type. `choices`: the words it takes, if it takes words. `many`: it holds several values. `is_path`: its
    values name files.
    """

    section: str
    field: str
    name: str
    kind: Any
    default: Any
    description: str
    choices: tuple[str, ...]
    many: bool
    is_path: bool

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    def convert(self, text: str, where: str) -> Any:
        """The value that `text` means, several separated by commas. Raises ConfigError naming `where`."""
        value = [part.strip() for part in text.split(",") if part.strip()] if self.many else text
        try:
            return msgspec.convert(value, self.kind, strict=False)
        except msgspec.ValidationError as error:
            # msgspec's text: "Expected `int`, got `str`"; what came is told as it was written
            expected = str(error).split(", got ", maxsplit=1)[0].removeprefix("Expected ")
            expected = " or ".join(self.choices).replace("integer", "integer >= 1") or expected
            raise ConfigError(f"{where}: expected {expected}, got {text!r}") from None


def from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """What the environment sets, by option name. Raises ConfigError for a value that cannot be, or a misspelt name."""
    known = {option.variable: option for option in OPTIONS.values()}
    found: dict[str, Any] = {}
    for variable, text in env.items():
        option = known.get(variable)
        if option is None:
            _refuse_misspelt(variable, known)
        elif variable != PATH_VARIABLE and text and not text.startswith(KUBERNETES_LINK):
            found[option.name] = option.convert(text, variable)
    return found


def _refuse_misspelt(variable: str, known: Mapping[str, Option]) -> None:
    """Raises ConfigError if it resembles an option; else it is somebody else's (Kubernetes: FASTSERVE_SERVICE_HOST)."""
    if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
        return
    names = [name.removeprefix(ENVIRONMENT_PREFIX) for name in known]
    near = get_close_matches(variable.removeprefix(ENVIRONMENT_PREFIX), names, n=1, cutoff=0.75)
    if near:
        raise ConfigError(f"{variable}: unknown variable; did you mean {ENVIRONMENT_PREFIX}{near[0]}?")


def _every_option() -> Iterator[Option]:
    """In the order of the fields."""
    for section, struct in (("server", ServerConfig), ("repository", RepositoryConfig)):
        hints = typing.get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            meta: Meta = hints[field.name].__metadata__[0]
            extra = meta.extra or {}
            yield Option(
                section=section,
                field=field.name,
                name=extra.get("option", field.name),
                kind=hints[field.name],
                default=field.default,
                description=meta.description or "",
                choices=tuple(_words(hints[field.name].__origin__)),
                many=isinstance(field.default, tuple),
                is_path=PATH_FIELD.items() <= extra.items(),
            )


def _words(kind: Any) -> Iterator[str]:
    """The literals of a type, in unions too; there `integer` stands for any."""
    for part in (kind, *typing.get_args(kind)):
        if typing.get_origin(part) is typing.Annotated and part.__origin__ is int:
            yield "integer"
        if typing.get_origin(part) is typing.Literal:
            yield from typing.get_args(part)


OPTIONS: dict[str, Option] = {option.name: option for option in _every_option()}
