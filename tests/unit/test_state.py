"""What several workers serve, as one."""

import pytest

from fastserve.engine.state import Report, merged
from fastserve.errors import Fault
from fastserve.types import VersionState as S
from fastserve.types import VersionStatus


def of(*several: S | None) -> S:
    """The state of a version whose state in each worker is this; None: that one knows nothing of it."""
    reports = [
        Report(1, True, "", {"m": (VersionStatus(1, state, "why"),)} if state is not None else {}) for state in several
    ]
    (status,) = merged(reports).models["m"]
    return status.state


@pytest.mark.parametrize(
    ("several", "together"),
    [
        ((S.READY,), S.READY),
        ((S.READY, S.READY), S.READY),
        ((S.READY, S.LOADING), S.LOADING),
        ((S.READY, None), S.LOADING),
        ((S.READY, S.FAILED), S.FAILED),
        ((S.FAILED, None), S.FAILED),
        ((S.READY, S.DRAINING), S.DRAINING),
        ((S.DRAINING, None), S.DRAINING),
        ((S.READY, S.UNLOADED), S.DRAINING),
        ((S.UNLOADED, S.UNLOADED), S.UNLOADED),
        ((S.UNLOADED, S.DRAINING), S.DRAINING),
    ],
)
def test_a_version_is_ready_where_every_worker_serves_it(several: tuple[S | None, ...], together: S):
    assert of(*several) is together
    assert of(*reversed(several)) is together


def test_the_slowest_worker_says_what_is_in_effect():
    reports = [Report(7, True, "", {}), Report(5, False, "starting", {})]
    assert merged(reports) == Report(5, False, "starting", {})


def test_reasons_of_what_failed_are_kept():
    ready = Report(1, True, "", {"m": (VersionStatus(1, S.READY),)})
    failed = Report(1, True, "", {"m": (VersionStatus(1, S.FAILED, "no memory", Fault.DATA_LOSS),)})
    assert merged([ready, failed]).models["m"] == (VersionStatus(1, S.FAILED, "no memory", Fault.DATA_LOSS),)


def test_versions_are_listed_newest_first():
    one = Report(1, True, "", {"m": (VersionStatus(1, S.READY),)})
    other = Report(1, True, "", {"m": (VersionStatus(10, S.READY), VersionStatus(9, S.READY))})
    assert [status.version for status in merged([one, other]).models["m"]] == [10, 9, 1]
