import pytest

from fastserve.repository.policy import VersionPolicy, wanted_versions


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("latest", (12,)),
        ("all", (12, 3, 2, 1)),
        ({"latest": 1}, (12,)),
        ({"latest": 2}, (12, 3)),
        ({"latest": 9}, (12, 3, 2, 1)),
        ([1, 3], (3, 1)),
        ([3, 7, 1, 1], (3, 1)),
        ([7], ()),
    ],
)
def test_which_versions_are_wanted(policy: VersionPolicy, wanted: tuple[int, ...]) -> None:
    assert wanted_versions(policy, {3: "", 1: "", 12: "", 2: ""}) == wanted


@pytest.mark.parametrize("policy", ["latest", "all", {"latest": 2}, [1]])
def test_of_nothing_nothing_is_wanted(policy: VersionPolicy) -> None:
    assert wanted_versions(policy, ()) == ()
