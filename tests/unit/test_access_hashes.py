"""Hashes say how they were made, fit the configuration's rules, and match what they were made of and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.access import hashes
from fastserve.access.hashes import ClearPasswordCheck, KeyCheck, PasswordCheck, hash_key, hash_password, new_key
from fastserve.config.auth import KEY_HASH, password_hash_fits

QUICK = "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
# Of hashlib.scrypt(b"fanatic", salt=b"saltsaltsaltsalt", n=1024, r=8, p=1, dklen=32), as a file written years ago has it.
FANATIC = QUICK + "LOVO8Zy7BBP9IY9Ri0eU7CNmDdZZBVNDZ9egfmWnSkc"


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "LN", 10)
    monkeypatch.setattr(hashes, "P", 1)


def test_a_hash_made_by_other_settings_is_still_checked() -> None:
    check = PasswordCheck(FANATIC)
    assert check.matches(b"fanatic")
    assert not check.matches(b"fanatic ")


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("password", ["x", "with:colon", "pässwörd", " spaces ", "x" * 1000])
def test_a_password_matches_its_own_hash_only(password: str) -> None:
    text = hash_password(password)
    assert password_hash_fits(text)
    assert text != hash_password(password), "the salt is fresh"
    for check in (PasswordCheck(text), ClearPasswordCheck(password)):
        assert check.matches(password.encode())
        assert not check.matches(password.encode() + b"x")
        assert not check.matches(b"")


def test_the_default_settings_take_memory_and_time() -> None:
    assert (hashes.LN, hashes.R, hashes.P) == (14, 8, 5)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.binary())
@settings(deadline=None)
def test_a_key_matches_its_own_hash_only(key: str, other: bytes) -> None:
    text = hash_key(key)
    assert KEY_HASH.fullmatch(text)
    check = KeyCheck(text)
    assert check.matches(key.encode())
    assert check.hint == hashes.key_hint(key.encode())
    assert check.matches(other) is (other == key.encode())


def test_keys_made_here_are_long_random_and_of_a_kind() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("fsk_") and len(key) >= 40 and key.isascii() for key in keys)


@pytest.mark.parametrize(
    "text",
    ["", "fanatic", FANATIC[:-30], FANATIC.replace("ln=10", "ln=30"), FANATIC.replace("ln=10", "ln=1"),
     FANATIC.replace("r=8", "r=0"), FANATIC.replace("p=1", "p=99"), FANATIC.replace("scrypt", "bcrypt"), FANATIC + "\n"],
)  # fmt: skip
def test_what_is_no_hash_or_costs_too_much_does_not_fit(text: str) -> None:
    assert not password_hash_fits(text)
