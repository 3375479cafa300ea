"""A path that a route's pattern matches, made from the pattern: what is written out, as short as may be."""

import re
from typing import Any

parser: Any = re._parser  # type: ignore[attr-defined]

Groups = dict[int, str]
"""What stands for a group that the shortest path has."""


def path_for(pattern: re.Pattern[str], model: str = "m") -> str:
    """A path that `pattern` fully matches, for that model where it names one."""
    groups = {number: model for name, number in pattern.groupindex.items() if name == "model"}
    path = _all(parser.parse(pattern.pattern, pattern.flags), groups)
    assert pattern.fullmatch(path), f"{path} was made for {pattern.pattern}"
    return path


def _text(step: Any, groups: Groups) -> str:
    kind, value = str(step[0]), step[1]
    match kind:
        case "LITERAL":
            return chr(value)
        case "SUBPATTERN":
            return groups.get(value[0]) or _all(value[3], groups)
        case "MAX_REPEAT" | "MIN_REPEAT":
            return value[0] * _all(value[2], groups)
        case "BRANCH":
            return _all(value[1][0], groups)
        case "ANY" | "IN" | "NOT_LITERAL":
            return "x"
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return ""
    raise AssertionError(f"a pattern with {kind}")


def _all(steps: Any, groups: Groups) -> str:
    return "".join(_text(step, groups) for step in steps)
