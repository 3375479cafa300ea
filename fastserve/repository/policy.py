"""Which of the versions on disk are wanted. Pure; any thread."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

VersionPolicy = Literal["latest", "all"] | Mapping[str, int] | Sequence[int]
""""latest", "all", {"latest": n} or the versions themselves."""


def wanted_versions(policy: VersionPolicy, available: Iterable[int]) -> tuple[int, ...]:
    """Choose from `available`, newest first. Versions that are asked for and not there are left out."""
    newest_first = tuple(sorted(set(available), reverse=True))
    if policy == "all":
        return newest_first
    if policy == "latest":
        return newest_first[:1]
    if isinstance(policy, Mapping):
        return newest_first[: policy["latest"]]
    return tuple(version for version in newest_first if version in policy)
