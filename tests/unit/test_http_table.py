"""Paths to routes: found once, remembered within bounds."""

from typing import Any

from fastserve.http.table import MAX_REMEMBERED, MAX_REMEMBERED_CHARS, PathTable
from tests.support.toy_protocol import Toy


def test_paths_are_remembered_within_bounds():
    table = PathTable([Toy()])
    assert table.find("POST", "/echo") is table.find("POST", "/echo")
    assert table.find("POST", "/echo").route is not None
    for i in range(3 * MAX_REMEMBERED):
        table.find("POST", f"/nowhere/{i}")
    assert len(table._remembered) == 1


def test_long_paths_are_answered_and_not_remembered():
    class Everything(Toy):
        def routes(self) -> list[Any]:
            route = super().routes()[1]
            return [type(route)("POST", self.owns, "infer", infer=self.echo)]

    table = PathTable([Everything()])
    assert table.find("POST", "/" + "a" * MAX_REMEMBERED_CHARS).route is not None
    assert len(table._remembered) == 0
    for i in range(2 * MAX_REMEMBERED):
        table.find("POST", f"/{i}")
    assert len(table._remembered) <= MAX_REMEMBERED
