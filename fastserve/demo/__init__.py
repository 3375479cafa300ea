"""The example models inside the package (examples/make_demo_models.py makes them), and what they answer.

`models/<name>/1/model.onnx`, and `golden.json` beside it: instances as a client sends them, and their predictions.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

MODELS = Path(__file__).parent / "models"


class Golden(Struct, frozen=True):
    """What to send to a demo model, and what it answers, row by row."""

    instances: list[Any]
    predictions: list[Any]


def names() -> list[str]:
    """Every demo model."""
    return sorted(folder.name for folder in MODELS.iterdir() if (folder / "1" / "golden.json").is_file())


def golden(model: str) -> Golden:
    """The golden rows of one of `names()`."""
    return msgspec.json.decode((MODELS / model / "1" / "golden.json").read_bytes(), type=Golden)
