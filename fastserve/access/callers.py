"""The callers there are, and which of them sent a request: at once where its credentials were seen before.

A credential that was presented is remembered by a keyed digest, with a key of this process: nothing that is kept leads back
to a secret. Those that were right are not pushed out by those that were wrong.

Thread: `known` and `recognise` on any. Memory: two bounded dictionaries, oldest out first.
"""

import fnmatch
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from fastserve.access.attempts import Attempts
from fastserve.access.credentials import Key, Password, of_api_key, of_authorization
from fastserve.access.hashes import ClearPasswordCheck, KeyCheck, PasswordCheck, hash_key, key_hint
from fastserve.config import AuthConfig, KeyConfig, UserConfig
from fastserve.errors import FastServeError, Unauthenticated
from fastserve.types import LOG, Caller

MAX_RIGHT = 16_384
MAX_WRONG = 8_192

BASIC = 'Basic realm="fastserve", charset="UTF-8"'
BEARER = 'Bearer realm="fastserve"'

USER_SCOPES = ("infer", "read")
KEY_SCOPES = ("infer",)
Post = Callable[[Callable[[], None]], None]
Told = Callable[[Caller | FastServeError], None]
Hashers = tuple[hashlib.blake2b, hashlib.blake2b, hashlib.blake2b]


class Headers(Protocol):
    """A request's headers, by lower-case name."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """The value of the first header of that name, else `default`."""


class Callers:
    """Everybody whom the configuration names. `post`: to a thread that may be held up.

    `before`: who was named until now. Whoever was recognised stays so if nothing about them has changed.
    """

    def __init__(self, auth: AuthConfig, post: Post, before: "Callers | None" = None) -> None:
        self.auth = auth
        self._attempts = Attempts(post)
        self._known: dict[str, tuple[UserConfig | KeyConfig, Caller]] = {}
        self._keys: dict[bytes, list[tuple[KeyCheck, Caller]]] = {}
        for key in auth.keys:
            check, caller = KeyCheck(key.key_hash or hash_key(key.key)), _caller(key.name, key, KEY_SCOPES)
            self._keys.setdefault(check.hint, []).append((check, caller))
            self._known[f"key {key.name}"] = key, caller
        self._users = {user.username: (_password_check(user), _user(user)) for user in auth.users}
        self._known |= {f"user {user.username}": (user, self._users[user.username][1]) for user in auth.users}
        self._challenges = (*((BASIC,) if auth.users else ()), *((BEARER,) if auth.keys or not auth.users else ()))
        self._right: dict[bytes, Caller] = {}
        self._wrong: dict[bytes, None] = {}
        self._of_api_key, self._of_authorization, self._of_bare = before.hashers if before else _new_hashers()
        if before is not None:
            self._right = before.still_right(self._known)

    @property
    def hashers(self) -> Hashers:
        """What digests of headers are made with; each is copied, never used itself."""
        return self._of_api_key, self._of_authorization, self._of_bare

    def still_right(self, known: Mapping[str, tuple[UserConfig | KeyConfig, Caller]]) -> dict[bytes, Caller]:
        """Who was recognised, as far as their entries are the same among `known`."""
        same = {
            id(caller): known[name][1]
            for name, (entry, caller) in self._known.items()
            if name in known and known[name][0] == entry
        }
        return {digest: same[id(caller)] for digest, caller in self._right.copy().items() if id(caller) in same}

    def close(self) -> None:
        """No password is checked any more."""
        self._attempts.close()

    def known(self, headers: Headers, scope: str) -> Caller | None:
        """Who sent them to a route of that scope, where that was found out before. Takes about a microsecond."""
        text = headers.get("x-api-key")
        if text is not None:
            hasher = self._of_api_key.copy()
        else:
            text = headers.get("authorization")
            if text is None:
                return None
            hasher = (self._of_bare if scope == LOG else self._of_authorization).copy()
        hasher.update(text.encode("utf-8", "surrogatepass"))
        return self._right.get(hasher.digest())

    def recognise(self, headers: Headers, scope: str, address: str, told: Told) -> None:
        """Find out who sent them, from that address: `told` is called once, now or later, with the caller or the refusal."""
        api_key, authorization = headers.get("x-api-key"), headers.get("authorization")
        if api_key is None and authorization is None:
            told(Unauthenticated(self._challenges, missing=True))
            return
        credential: Key | Password | None
        if api_key is not None:
            hasher, text, credential = self._of_api_key.copy(), api_key, of_api_key(api_key)
        else:
            bare = scope == LOG
            hasher, text = (self._of_bare if bare else self._of_authorization).copy(), authorization
            credential = of_authorization(authorization, bare=bare)
        hasher.update(text.encode("utf-8", "surrogatepass"))
        self._recognise(credential, hasher.digest(), address, told)

    def _recognise(self, credential: Key | Password | None, digest: bytes, address: str, told: Told) -> None:
        caller = self._right.get(digest)
        if caller is not None:
            told(caller)
        elif credential is None or digest in self._wrong:
            told(self._refusal())
        elif isinstance(credential, Password):
            self._recognise_user(credential, digest, address, told)
        else:
            told(self._remembered(digest, self._owner(credential)))

    def _recognise_user(self, credential: Password, digest: bytes, address: str, told: Told) -> None:
        if not self._users:
            told(self._remembered(digest, None))
            return
        user = self._users.get(credential.user)
        # Names that nobody has take as long as those that somebody has.
        check, caller = user or next(iter(self._users.values()))
        known = user is not None

        def checked(outcome: bool | FastServeError) -> None:
            if isinstance(outcome, FastServeError):
                told(outcome)
            else:
                told(self._remembered(digest, caller if outcome and known else None))

        self._attempts.ask((address, credential.user), digest, lambda: check.matches(credential.secret), checked)

    def _owner(self, credential: Key) -> Caller | None:
        for check, caller in self._keys.get(key_hint(credential.secret), ()):
            if check.matches(credential.secret):
                return caller
        return None

    def _remembered(self, digest: bytes, caller: Caller | None) -> Caller | FastServeError:
        if caller is None:
            _put(self._wrong, digest, None, MAX_WRONG)
            return self._refusal()
        _put(self._right, digest, caller, MAX_RIGHT)
        return caller

    def _refusal(self) -> FastServeError:
        return Unauthenticated(self._challenges, missing=False)


def _new_hashers() -> Hashers:
    """For `X-API-Key`, for `Authorization`, and for where that may be a bare key."""
    one, two, three = (hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32) for _ in range(3))
    return one, two, three


def _caller(
    name: str, entry: UserConfig | KeyConfig, scopes: tuple[str, ...], *, sent_by_browsers: bool = False
) -> Caller:
    models = None
    if entry.models is not None:
        models = re.compile("|".join(fnmatch.translate(pattern) for pattern in entry.models))
    return Caller(
        name=name,
        scopes=frozenset(entry.scopes or scopes),
        models=models,
        names=frozenset(entry.models or ()),
        spaces=None if entry.spaces is None else frozenset(entry.spaces),
        sent_by_browsers=sent_by_browsers,
    )


def _user(user: UserConfig) -> Caller:
    return _caller(user.username, user, USER_SCOPES, sent_by_browsers=True)


def _password_check(user: UserConfig) -> PasswordCheck | ClearPasswordCheck:
    return PasswordCheck(user.password_hash) if user.password_hash else ClearPasswordCheck(user.password)


def _put(memory: dict[bytes, Any], digest: bytes, value: Any, most: int) -> None:
    """The oldest makes room. Others may do the same at this moment, so that it may be gone already."""
    if len(memory) >= most:
        with suppress(StopIteration, RuntimeError):
            memory.pop(next(iter(memory)), None)
    memory[digest] = value
