"""A setting as a configuration file that `fastserve serve` takes. Pure."""

from collections.abc import Sequence

import msgspec

from fastserve.loadtest.tune.space import MODEL_FIELDS, Setting
from fastserve.repository.layout import ModelFiles


def configuration(model: ModelFiles, setting: Setting, about: Sequence[str] = ()) -> str:
    """fastserve.toml with that setting; `about`: comments above it."""
    text = msgspec.json.encode  # of a string, JSON is TOML
    lines = [f"# {line}" for line in about]
    lines += ["[server]", f"workers = {setting.workers}", ""]
    lines += ["[repository]", f"path = {text(str(model.base.resolve())).decode()}", ""]
    lines += ["[[models]]", f"name = {text(model.name).decode()}"]
    lines += [f"{field} = {getattr(setting, field)}" for field in MODEL_FIELDS]
    return "\n".join(lines) + "\n"
