"""Who sent a request: remembered without its secret, found out without burning the CPU, and never more than bounded."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.access import callers as callers_module
from fastserve.access import hashes
from fastserve.access.attempts import MAX_OF_ADDRESS, MAX_OF_NAME, MAX_WAITING, Attempts
from fastserve.access.callers import Callers
from fastserve.access.credentials import Key, Password, of_api_key, of_authorization
from fastserve.access.hashes import hash_key, hash_password
from fastserve.config import AuthConfig, KeyConfig, UserConfig
from fastserve.errors import FastServeError, TooManyAttempts, Unauthenticated
from fastserve.types import Caller
from tests.support.clockwork import FakeExecutor

KEY = "a-key-of-many-characters"
ANY_TEXT = st.text(st.characters(codec=None))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "LN", 10)
    monkeypatch.setattr(hashes, "P", 1)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Desk:
    """Callers, and whatever they were told."""

    def __init__(self, auth: AuthConfig) -> None:
        self.executor = FakeExecutor()
        self.callers = Callers(auth, self.executor.post)
        self.checks = 0

    def ask(
        self, headers: dict[str, str], scope: str = "infer", address: str = "10.0.0.1"
    ) -> list[Caller | FastServeError]:
        told: list[Caller | FastServeError] = []
        self.callers.recognise(headers, scope, address, told.append)
        return told

    def now(self, headers: dict[str, str], scope: str = "infer") -> Caller | FastServeError:
        told = self.ask(headers, scope)
        self.executor.run_all()
        (outcome,) = told
        return outcome


def some(*users: str, keys: int = 1) -> Desk:
    return Desk(
        AuthConfig(
            users=tuple(UserConfig(username=user, password_hash=hash_password(f"{user}'s")) for user in users),
            keys=tuple(KeyConfig(name=f"k{i}", key_hash=hash_key(KEY + str(i or ""))) for i in range(keys)),
        )
    )


def name_of(outcome: Caller | FastServeError) -> str:
    assert isinstance(outcome, Caller), outcome
    return outcome.name


# --- what headers present


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Basic cGluZWFwcGxlOmZhbmF0aWM=", Password("pineapple", b"fanatic")),
        ("bAsIc  cGluZWFwcGxlOmZhbmF0aWM", Password("pineapple", b"fanatic")),
        (basic("a", "b:c:d"), Password("a", b"b:c:d")),
        (basic("", ""), Password("", b"")),
        ("Bearer " + KEY, Key(KEY.encode())),
        ("bearer   " + KEY + " ", Key(KEY.encode())),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic bm9ib2R5", None),
        ("Basic /w==", None),
        ("Basic //86", None),
        ("Bearer", None),
        ("Digest " + KEY, None),
        (KEY, None),
        ("", None),
        ("Bearer " + "x" * 5000, None),
    ],
)
def test_what_an_authorization_presents(text: str, found: Any) -> None:
    assert of_authorization(text) == found
    assert "fanatic" not in repr(of_authorization(text))


def test_a_bare_key_is_one_where_it_may_be() -> None:
    assert of_authorization(KEY, bare=True) == Key(KEY.encode())
    assert of_authorization(KEY + " x", bare=True) is None
    assert of_authorization("", bare=True) is None
    desk = some()
    assert isinstance(desk.now({"authorization": KEY}), Unauthenticated)
    assert name_of(desk.now({"authorization": KEY}, "log")) == "k0"
    assert name_of(desk.now({"authorization": f"Bearer {KEY}"}, "log")) == "k0"
    assert desk.callers.known({"authorization": KEY}, "infer") is None


@given(ANY_TEXT, st.booleans())
def test_no_header_is_an_error(text: str, bare: bool) -> None:
    for found in (of_authorization(text, bare=bare), of_authorization("basic " + text), of_api_key(text)):
        assert found is None or isinstance(found, Password | Key)


@given(ANY_TEXT, st.sampled_from(["", "Basic ", "bearer "]), st.sampled_from(["authorization", "x-api-key"]))
def test_whatever_is_sent_is_refused_as_wrong(text: str, scheme: str, header: str) -> None:
    desk = some(keys=1)
    assert desk.callers.known({header: scheme + text}, "infer") is None
    assert isinstance(desk.now({header: scheme + text}), Unauthenticated)


# --- recognising


def test_keys_and_users_are_recognised_and_then_known() -> None:
    desk = some("ann", "bob", keys=3)
    for headers, name in (
        ({"x-api-key": KEY}, "k0"),
        ({"authorization": f"Bearer {KEY}2"}, "k2"),
        ({"authorization": basic("bob", "bob's")}, "bob"),
        ({"x-api-key": KEY + "1", "authorization": "whatever a proxy wants"}, "k1"),
    ):
        assert desk.callers.known(headers, "infer") is None
        assert name_of(desk.now(headers)) == name
        known = desk.callers.known(headers, "infer")
        assert known is not None
        assert known.name == name
        (again,) = desk.ask(headers)
        assert again is known
    assert not desk.executor.posted


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": basic("ann", "bob's")},
        {"authorization": basic("ann", "")},
        {"authorization": basic("nobody", "ann's")},
        {"authorization": basic("k0", KEY)},
        {"authorization": f"Bearer {KEY}x"},
        {"x-api-key": "ann's"},
        {"x-api-key": f"Bearer {KEY}"},
        {"x-api-key": "", "authorization": f"Bearer {KEY}"},
    ],
)
def test_wrong_credentials_are_refused_and_tell_nothing(headers: dict[str, str]) -> None:
    desk = some("ann")
    outcome = desk.now(headers)
    assert isinstance(outcome, Unauthenticated)
    assert not outcome.missing
    assert str(outcome) == "the credentials are not valid"
    assert desk.callers.known(headers, "infer") is None


def test_challenges_are_those_that_can_be_met() -> None:
    for desk, schemes in ((some("ann"), ["Basic", "Bearer"]), (some(), ["Bearer"]), (some("ann", keys=0), ["Basic"])):
        outcome = desk.now({})
        assert isinstance(outcome, Unauthenticated)
        assert outcome.missing
        assert [challenge.split(" ")[0] for challenge in outcome.challenges] == schemes


def test_secrets_in_clear_count_as_well() -> None:
    desk = Desk(AuthConfig(users=(UserConfig(username="a", password="p"),), keys=(KeyConfig(name="k", key="short"),)))
    assert name_of(desk.now({"authorization": basic("a", "p")})) == "a"
    assert name_of(desk.now({"x-api-key": "short"})) == "k"
    assert isinstance(desk.now({"authorization": basic("a", "q")}), Unauthenticated)


def test_defaults_of_scopes_models_and_spaces() -> None:
    desk = some("ann")
    ann, key = desk.now({"authorization": basic("ann", "ann's")}), desk.now({"x-api-key": KEY})
    assert isinstance(ann, Caller)
    assert isinstance(key, Caller)
    assert (ann.scopes, ann.sent_by_browsers) == ({"infer", "read"}, True)
    assert (key.scopes, key.sent_by_browsers) == ({"infer"}, False)
    assert key.may_use("anything")
    assert key.may_log_to("anywhere")


def test_globs_of_models_and_spaces() -> None:
    key = KeyConfig(name="k", key=KEY, models=("iris", "team-a-*", "deployment-42"), spaces=("s",))
    caller = Desk(AuthConfig(keys=(key,))).now({"x-api-key": KEY})
    assert isinstance(caller, Caller)
    for model, may in {
        "iris": 1,
        "team-a-": 1,
        "team-a-x/y": 1,
        "Iris": 0,
        "iris2": 0,
        "xiris": 0,
        "iris\n": 0,
    }.items():
        assert caller.may_use(model) is bool(may), model
    assert caller.may_use("digits", "deployment-42"), "an alias that is written out"
    assert not caller.may_use("digits", "team-a-x"), "a glob is about models' own names"
    assert caller.may_log_to("s")
    assert not caller.may_log_to("t")


# --- what it costs


def test_wrong_credentials_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = some("ann")
    headers = {"authorization": basic("ann", "wrong")}
    desk.now(headers)
    (outcome,) = desk.ask(headers)
    assert isinstance(outcome, Unauthenticated)
    assert not desk.executor.posted


def test_a_password_that_many_send_at_once_is_checked_once() -> None:
    desk = some("ann")
    told = [desk.ask({"authorization": basic("ann", "ann's")}) for _ in range(100)]
    assert len(desk.executor.posted) == 1
    assert told == [[]] * 100
    desk.executor.run_all()
    assert [name_of(outcome) for (outcome,) in told] == ["ann"] * 100


def outcomes(told: list[list[Any]]) -> list[str]:
    """Of each that was told at once."""
    return [type(outcome).__name__ for one in told for outcome in one]


def test_passwords_wait_in_bounded_lanes_that_take_turns() -> None:
    desk = some("ann", "bob")
    guesses = [desk.ask({"authorization": basic("bob", f"guess {i}")}) for i in range(100)]
    others = [desk.ask({"authorization": basic(f"nobody{i}", "x")}) for i in range(100)]
    ann = desk.ask({"authorization": basic("ann", "ann's")}, address="10.0.0.2")
    bob = desk.ask({"authorization": basic("bob", "bob's")}, address="10.0.0.2")
    assert outcomes(guesses) == ["TooManyAttempts"] * (100 - MAX_OF_NAME)
    assert outcomes(others) == ["TooManyAttempts"] * (100 - MAX_OF_ADDRESS + MAX_OF_NAME)
    assert len(desk.executor.posted) == MAX_OF_ADDRESS + 2
    for _ in range(4):
        desk.executor.run_one()
    assert [name_of(outcome) for outcome in (*ann, *bob)] == ["ann", "bob"], "every other turn is their address's"
    desk.executor.run_all()
    assert outcomes(others[:1]) == ["Unauthenticated"]


@pytest.mark.parametrize("names", [["ann"], ["eve"], ["ann", "bob"], ["eve", "mallory"], ["ann", "eve"]])
def test_no_refusal_tells_which_names_there_are(names: list[str]) -> None:
    desk = some("ann", "bob")
    told = [desk.ask({"authorization": basic(name, f"guess {i}")}) for i in range(20) for name in names]
    refused = [len(one) for one in told]
    assert refused == [0] * MAX_OF_NAME * len(names) + [1] * (20 - MAX_OF_NAME) * len(names)
    desk.executor.run_all()
    assert set(outcomes(told)) == {"Unauthenticated", "TooManyAttempts"}


def test_all_lanes_together_are_bounded() -> None:
    desk = some(*(f"u{i}" for i in range(MAX_WAITING + 5)))
    told = [
        desk.ask({"authorization": basic(f"u{i}", f"u{i}'s")}, address=f"10.0.0.{i}") for i in range(MAX_WAITING + 5)
    ]
    assert len(desk.executor.posted) == MAX_WAITING
    assert [len(outcomes) for outcomes in told] == [0] * MAX_WAITING + [1] * 5
    desk.executor.run_all()
    assert name_of(desk.now({"authorization": basic(f"u{MAX_WAITING}", f"u{MAX_WAITING}'s")})) == f"u{MAX_WAITING}"


def test_where_callers_are_required_and_nobody_is_named_nobody_is_known() -> None:
    desk = Desk(AuthConfig(required=True))
    assert AuthConfig(required=True)
    for headers in ({}, {"x-api-key": KEY}, {"authorization": basic("ann", "x")}):
        (outcome,) = desk.ask(headers)
        assert isinstance(outcome, Unauthenticated)
        assert outcome.challenges


def test_nothing_is_checked_once_it_is_closed() -> None:
    desk = some("ann")
    told = desk.ask({"authorization": basic("ann", "ann's")})
    desk.callers.close()
    desk.executor.run_all()
    assert [type(outcome) for outcome in told] == [TooManyAttempts]
    assert isinstance(desk.now({"authorization": basic("ann", "ann's")}), TooManyAttempts)


def test_a_check_that_fails_of_itself_leaves_its_lane() -> None:
    executor = FakeExecutor()
    attempts = Attempts(executor.post)

    def broken() -> bool:
        raise MemoryError

    told: list[Any] = []
    attempts.ask(("a", "b"), b"1", broken, told.append)
    with pytest.raises(MemoryError):
        executor.run_all()
    assert [type(outcome) for outcome in told] == [TooManyAttempts]
    attempts.ask(("a", "b"), b"1", lambda: True, told.append)
    executor.run_all()
    assert told[1:] == [True]


def test_memories_are_bounded_and_the_wrong_ones_push_out_no_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "MAX_RIGHT", 3)
    monkeypatch.setattr(callers_module, "MAX_WRONG", 5)
    desk = some(keys=5)
    for i in range(100):
        desk.now({"x-api-key": f"wrong {i}"})
    headers = [{"x-api-key": KEY + str(i or "")} for i in range(5)]
    for one in headers:
        desk.now(one)
    assert [desk.callers.known(one, "infer") is not None for one in headers] == [False, False, True, True, True]
    assert len(desk.callers._right) == 3
    assert len(desk.callers._wrong) == 5


def test_no_secret_is_kept() -> None:
    desk = some("ann")
    sent = [{"authorization": basic("ann", "ann's")}, {"x-api-key": KEY}, {"x-api-key": "what-nobody-has"}]
    for headers in sent:
        desk.now(headers)
    held = repr([vars(desk.callers), vars(desk.callers._attempts)])
    for secret in (KEY, "ann's", "what-nobody-has", sent[0]["authorization"]):
        assert secret not in held


# --- other users and keys


def renewed(desk: Desk, *users: UserConfig, keys: tuple[KeyConfig, ...] = ()) -> Desk:
    """The same desk with others named, and with what it remembers."""
    after = Desk(AuthConfig(users=users, keys=keys))
    after.callers = Callers(AuthConfig(users=users, keys=keys), after.executor.post, desk.callers)
    return after


def test_who_is_named_as_before_is_still_known_and_others_are_not() -> None:
    desk = some("ann", "bob", "eve", keys=2)
    sent = {user: {"authorization": basic(user, f"{user}'s")} for user in ("ann", "bob", "eve")}
    sent |= {f"k{i}": {"x-api-key": KEY + str(i or "")} for i in range(2)}
    for headers in sent.values():
        assert isinstance(desk.now(headers), Caller)
    ann, bob, _ = desk.callers.auth.users
    other = UserConfig(username="bob", password_hash=bob.password_hash, scopes=("read",))
    after = renewed(desk, ann, other, keys=desk.callers.auth.keys[:1])
    known = {name: after.callers.known(headers, "infer") for name, headers in sent.items()}
    assert [name for name, caller in known.items() if caller is not None] == ["ann", "k0"]
    assert after.callers.known(sent["ann"], "infer") is not desk.callers.known(sent["ann"], "infer")
    found = after.now(sent["bob"])
    assert isinstance(found, Caller)
    assert found.scopes == {"read"}
    for gone in ("eve", "k1"):
        assert isinstance(after.now(sent[gone]), Unauthenticated)


def test_a_password_that_was_changed_meanwhile_is_not_taken_for_the_new_one() -> None:
    desk = some("ann")
    told = desk.ask({"authorization": basic("ann", "ann's")})
    after = renewed(desk, UserConfig(username="ann", password_hash=hash_password("another")))
    desk.executor.run_all()
    assert name_of(told[0]) == "ann", "whom the old ones know: the site asks again"
    assert isinstance(after.now({"authorization": basic("ann", "ann's")}), Unauthenticated)
    assert name_of(after.now({"authorization": basic("ann", "another")})) == "ann"


def test_what_was_wrong_may_be_right_now() -> None:
    desk = some()
    new = "a-key-that-comes-later"
    assert isinstance(desk.now({"x-api-key": new}), Unauthenticated)
    after = renewed(desk, keys=(KeyConfig(name="new", key_hash=hash_key(new)),))
    assert name_of(after.now({"x-api-key": new})) == "new"
