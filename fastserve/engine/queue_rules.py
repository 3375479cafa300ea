"""What a model's configuration says of requests' places in its queue: levels of priority, and how long they may wait.

Pure; any thread.
"""

from fastserve.config import ModelConfig
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.engine.ranked import Ranks
from fastserve.types import HIGHEST_PRIORITY, InferRequest


class QueueRules:
    """The rules of one model. Made only where there are any (`rules_of`): requests of other models pay nothing."""

    def __init__(self, config: ModelConfig) -> None:
        self._levels = config.priority_levels
        self._default = config.default_priority
        self._policy = config.queue_policy
        self._own = config.priority_policies

    def apply(self, request: InferRequest) -> None:
        """Put the request on its level, the default one where it names none, or one that there is not; and say how long it
        waits there."""
        level = HIGHEST_PRIORITY - request.priority if request.priority > 0 else 0
        if level == 0 or (self._levels and level > self._levels):
            level = self._default
        if level:
            request.priority = HIGHEST_PRIORITY - level
        policy = self._own.get(level, self._policy)
        wait_ns = _wait_ns(policy, request.wait_ns)
        request.wait_ns = -wait_ns if policy.timeout_action == "delay" else wait_ns


def rules_of(config: ModelConfig) -> QueueRules | None:
    """The model's rules; None where the configuration has none."""
    said = config.priority_levels or config.default_priority or config.priority_policies
    return QueueRules(config) if said or config.queue_policy != QueuePolicyConfig() else None


def ranks_of(config: ModelConfig) -> Ranks | None:
    """What its queue keeps by level; None where one native queue does all."""
    policies = (config.queue_policy, *config.priority_policies.values())
    if not any(policy.max_requests or policy.timeout_action == "delay" for policy in policies):
        return None
    return Ranks(
        {level: policy.max_requests for level, policy in config.priority_policies.items()},
        config.queue_policy.max_requests,
    )


def _wait_ns(policy: QueuePolicyConfig, asked_ns: int) -> int:
    """The policy's limit, or a shorter one that is asked for where that is allowed."""
    limit_ns = policy.timeout_us * 1000
    if not asked_ns or not policy.allow_timeout_override:
        return limit_ns
    return min(asked_ns, limit_ns) if limit_ns else asked_ns
