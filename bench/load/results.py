"""The figures of all cells, as they are kept in bench/results/load.json. Pure but for reading and writing that file."""

from pathlib import Path

import msgspec
from msgspec import Struct

from bench.load.machine import Machine, Moment
from bench.load.wrk import Figures


class Round(Struct, kw_only=True):
    """One round, as it was driven. `beside`: the figures of the big requests; `notes`: what a figure stands for."""

    order: list[str]
    figures: dict[str, Figures]
    beside: dict[str, Figures]
    notes: dict[str, str]


class Measured(Struct, kw_only=True):
    """One cell, measured."""

    seconds: float
    machine: Machine
    begun: Moment
    rounds: list[Round]


def read(path: Path) -> dict[str, Measured]:
    """By cell; empty where nothing was measured yet."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Measured]) if path.exists() else {}


def write(path: Path, cells: dict[str, Measured]) -> None:
    """For people too: indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(cells)) + b"\n")
