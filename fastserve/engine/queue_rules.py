"""What a model's configuration says of requests' places in its queue: levels of priority, and how long they may take.

Pure; any thread.
"""

from fastserve.config import ModelConfig
from fastserve.types import HIGHEST_PRIORITY, InferRequest


class QueueRules:
    """The rules of one model. Made only where there are any (`rules_of`): requests of other models pay nothing."""

    def __init__(self, config: ModelConfig) -> None:
        self._levels = config.priority_levels
        self._default = config.default_priority
        self._limit_ns = config.queue_timeout_us * 1000
        self._own_ns = {level: limit_us * 1000 for level, limit_us in config.priority_timeouts_us.items()}

    def apply(self, request: InferRequest, now_ns: int) -> None:
        """Put the request on its level: the default one where it names none, or one that there is not."""
        level = HIGHEST_PRIORITY - request.priority if request.priority > 0 else 0
        if level == 0 or (self._levels and level > self._levels):
            level = self._default
        if level:
            request.priority = HIGHEST_PRIORITY - level
        limit_ns = self._own_ns.get(level, self._limit_ns)
        if limit_ns:
            until_ns = (request.received_ns or now_ns) + limit_ns
            request.deadline_ns = min(request.deadline_ns or until_ns, until_ns)


def rules_of(config: ModelConfig) -> QueueRules | None:
    """The model's rules; None where the configuration has none."""
    said = config.priority_levels or config.default_priority or config.queue_timeout_us or config.priority_timeouts_us
    return QueueRules(config) if said else None
