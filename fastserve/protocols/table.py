"""The protocols served, one line each; the first whose `owns` matches a path answers for it."""

from collections.abc import Callable

from fastserve.engine.engine import Engine
from fastserve.http.operations import Described
from fastserve.http.routes import Protocol
from fastserve.protocols.arize import openapi as arize
from fastserve.protocols.arize.routes import Arize
from fastserve.protocols.log import openapi as log
from fastserve.protocols.log.routes import Log
from fastserve.protocols.oip import openapi as oip
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.spice import openapi as spice
from fastserve.protocols.spice.routes import Spice
from fastserve.protocols.tfserving import openapi as tfserving
from fastserve.protocols.tfserving.routes import TfServing

PROTOCOLS: tuple[Callable[[Engine], Protocol], ...] = (Arize, Spice, TfServing, Log, OpenInference)

DESCRIBED: tuple[Described, ...] = (
    tfserving.DESCRIBED,
    oip.DESCRIBED,
    spice.DESCRIBED,
    arize.DESCRIBED,
    log.DESCRIBED,
)
"""What each of them says of itself in the API document."""
