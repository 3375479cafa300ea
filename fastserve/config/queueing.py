"""How requests wait for a model, as the configuration says it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class QueuePolicyConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How requests of one level wait for a model."""

    timeout_us: Annotated[
        int, Meta(ge=0, le=86_400_000_000, description="Longest wait in the queue, in microseconds; 0: no limit.")
    ] = 0
    timeout_action: Annotated[
        Literal["reject", "delay"],
        Meta(description="What then comes: reject: 504; delay: the others of its level go first."),
    ] = "reject"
    allow_timeout_override: Annotated[
        bool, Meta(description="Whether a request may ask for a shorter wait, or, without timeout_us, for any.")
    ] = True
    max_requests: Annotated[
        int,
        Meta(ge=0, le=1 << 30, description="Requests that may wait; beyond that they get 429; 0: max_queue_rows says."),
    ] = 0
