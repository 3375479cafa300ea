"""What a model's file or its configuration calls the columns of its inputs. Pure."""

import msgspec

from fastserve.config import ModelConfig
from fastserve.types import Metadata

METADATA_KEYS = ("features", "feature_names", "feature_names_in_", "input_features")
"""Where exporters write them: a list in JSON, or names and commas."""

MAX_CHARS = 1 << 17


def names_told(config: ModelConfig, metadata: Metadata) -> tuple[str, ...]:
    """As configured, else as the file says; nothing where neither does."""
    return config.features or _from_metadata(metadata)


def _from_metadata(metadata: Metadata) -> tuple[str, ...]:
    for key in METADATA_KEYS:
        text = metadata.get(key, "")
        names = _parsed(text) if len(text) <= MAX_CHARS else ()
        if names and len(set(names)) == len(names):
            return names
    return ()


def _parsed(text: str) -> tuple[str, ...]:
    if not text.lstrip().startswith("["):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError:
        return ()
