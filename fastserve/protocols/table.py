"""The protocols served, one line each; the first whose `owns` matches a path answers for it."""

from collections.abc import Callable

from fastserve.engine.engine import Engine
from fastserve.http.routes import Protocol
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.spice.routes import Spice
from fastserve.protocols.tfserving.routes import TfServing

PROTOCOLS: tuple[Callable[[Engine], Protocol], ...] = (Spice, TfServing, OpenInference)
