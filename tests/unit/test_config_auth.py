"""Users and keys in a fastserve.toml: what they may say, what is refused and where, and that nothing prints a secret."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from fastserve.access.hashes import hash_key
from fastserve.config import Config, load_config
from fastserve.engine.live_config import LiveConfig
from fastserve.errors import ConfigError

PASSWORD_HASH = "$scrypt$ln=14,r=8,p=5$c2FsdHNhbHRzYWx0c2FsdA$c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHQ"
KEY_HASH = hash_key("a-key-of-many-characters")
SECRET = "hunter2-in-the-file"


def read(folder: Path, text: str, **env: str) -> Config:
    file = folder / "fastserve.toml"
    file.write_text(text)
    return load_config([str(file)], env=env)


def test_users_and_keys_are_read(tmp_path: Path) -> None:
    auth = read(
        tmp_path,
        f"""
[[auth.users]]
username = "ann"
password_hash = "{PASSWORD_HASH}"
[[auth.keys]]
name = "ci"
key = "${{CI_KEY}}"
scopes = ["infer", "log"]
models = ["iris", "team-*"]
spaces = ["s"]
[[auth.keys]]
name = "stored"
key_hash = "{KEY_HASH}"
""",
        CI_KEY="0123",
    ).auth
    assert [(user.username, user.password_hash, user.scopes) for user in auth.users] == [("ann", PASSWORD_HASH, None)]
    assert [(key.name, key.key, key.key_hash) for key in auth.keys] == [("ci", "0123", ""), ("stored", "", KEY_HASH)]
    assert (auth.keys[0].scopes, auth.keys[0].models, auth.keys[0].spaces) == (
        ("infer", "log"),
        ("iris", "team-*"),
        ("s",),
    )
    assert auth
    assert not Config().auth


def key(*lines: str) -> str:
    return "\n".join(["[[auth.keys]]", "name = 'k'", *lines])


def user(*lines: str) -> str:
    return "\n".join(["[[auth.users]]", "username = 'u'", *lines])


GOOD_KEY, GOOD_USER = f"key_hash = '{KEY_HASH}'", f"password_hash = '{PASSWORD_HASH}'"
MISTAKES = [
    (
        key(f"key = '{SECRET}'"),
        'line 3: auth.keys[0].key: a secret in clear may only come from the environment, as "${NAME}"',
    ),
    (key(f"key = 'x${{A}}{SECRET}'"), "line 3: auth.keys[0].key: a secret in clear may only come"),
    (user(f"password = '{SECRET}'"), "line 3: auth.users[0].password: a secret in clear may only come"),
    (key("key = '${NOWHERE}'"), "line 3: auth.keys[0].key: the environment has no variable NOWHERE"),
    (key("key = '${EMPTY}'"), "line 1: auth.keys[0]: expected one of key_hash and key, and that it is not empty"),
    (key("key = '${A}'", GOOD_KEY), "auth.keys[0]: expected one of key_hash and key"),
    (key(), "auth.keys[0]: expected one of key_hash and key"),
    (user(), "auth.users[0]: expected one of password_hash and password"),
    (key(f"key_hash = '{SECRET}'"), "line 3: auth.keys[0].key_hash: expected what fastserve hash-key prints"),
    (key(f"key_hash = '{PASSWORD_HASH}'"), "auth.keys[0].key_hash: expected what fastserve hash-key prints"),
    (
        user(f"password_hash = '{KEY_HASH}'"),
        "auth.users[0].password_hash: expected what fastserve hash-password prints",
    ),
    (
        user(f"password_hash = '{PASSWORD_HASH.replace('ln=14', 'ln=24')}'"),
        "expected what fastserve hash-password prints",
    ),
    (key(GOOD_KEY, "scopes = ['write']"), "line 4: auth.keys[0].scopes[0]: invalid enum value 'write'"),
    (key(GOOD_KEY, "scopes = []"), "line 4: auth.keys[0].scopes: expected `array` of length >= 1"),
    (key(GOOD_KEY, "models = []"), "line 4: auth.keys[0].models: expected `array` of length >= 1"),
    (key(GOOD_KEY, "model = ['x']"), "line 4: auth.keys[0].model: unknown key; did you mean models?"),
    (key(GOOD_KEY) + "\n" + key(GOOD_KEY), 'auth.keys[1]: the name "k" is taken already'),
    (user(GOOD_USER) + "\n" + user(GOOD_USER), 'auth.users[1]: the name "u" is taken already'),
    (user(GOOD_USER).replace("'u'", "'u:v'"), "line 2: auth.users[0].username: expected a name without a colon"),
    ("[[auth.key]]\nname = 'k'", "line 1: auth.key: unknown key; did you mean keys?"),
    ("[auth]\nkeys = 3", "line 2: auth.keys: expected `array`, got `int`"),
    ("auth = 3", "line 1: auth: expected `object`, got `int`"),
    (f"[[auth.keys]]\nname = 'k'\nkey = {SECRET}", "not TOML"),
    (key(f"key = ['{SECRET}']"), "line 3: auth.keys[0].key: expected `str`, got `array`"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place_and_without_the_secret(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, A=SECRET, EMPTY="")
    assert expected in str(caught.value)
    for secret in (SECRET, PASSWORD_HASH, KEY_HASH):
        assert secret not in str(caught.value)


def test_a_configuration_prints_no_secret_and_no_hash(tmp_path: Path) -> None:
    config = read(tmp_path, user("password = '${A}'") + "\n" + key(GOOD_KEY), A=SECRET)
    for shown in (repr(config), str(config.auth.users[0]), f"{config.auth!r}", pretty_repr(config)):
        assert SECRET not in shown
        assert KEY_HASH not in shown


def live_of(folder: Path, text: str, caplog: pytest.LogCaptureFixture) -> tuple[LiveConfig, Callable[[str], str]]:
    """A configuration that is followed; and what writing another one has logged."""
    logging.getLogger("fastserve").propagate = True
    caplog.set_level(logging.INFO)
    live = LiveConfig(read(folder, text))

    def write(text: str) -> str:
        caplog.clear()
        fresh = folder / "fresh"
        fresh.write_text(text)
        fresh.rename(folder / "fastserve.toml")
        live.look(finished=True)
        return caplog.text

    return live, write


def test_users_and_keys_are_followed_and_told_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live, write = live_of(tmp_path, key(GOOD_KEY), caplog)
    told = write(
        key(f"key_hash = '{hash_key('another-key-of-many-chars')}'") + "\n" + user(f"password_hash = '{PASSWORD_HASH}'")
    )
    assert [one.username for one in live.config.auth.users] == ["u"]
    assert live.config.auth.keys[0].key_hash != KEY_HASH
    assert "key k: key_hash changed" in told
    assert "user u is new" in told
    assert "next start" not in told
    assert [secret for secret in ("blake2b", "scrypt") if secret in told] == []
    told = write(user(f"password_hash = '{PASSWORD_HASH}'"))
    assert "key k is not configured any more" in told
    assert not live.config.auth.keys


def test_a_file_that_names_nobody_any_more_opens_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live, write = live_of(tmp_path, key(GOOD_KEY), caplog)
    for text in ("", "[server]\nport = 8000\n"):
        assert "it names no users and no keys any more; that takes effect at the next start" in write(text)
        assert [one.name for one in live.config.auth.keys] == ["k"]
    assert "key k is not" not in caplog.text


def test_the_last_one_goes_at_once_where_callers_are_required(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live, write = live_of(tmp_path, key(GOOD_KEY), caplog)
    told = write("[auth]\nrequired = true\n")
    assert "key k is not configured any more" in told
    assert "next start" not in told
    assert live.config.auth
    assert not live.config.auth.keys


def test_users_may_come_where_there_were_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live, write = live_of(tmp_path, "", caplog)
    assert not live.config.auth
    assert "user u is new" in write(user(f"password_hash = '{PASSWORD_HASH}'"))
    assert live.config.auth
