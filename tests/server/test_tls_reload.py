"""Certificates that change while a server serves: no request fails, and new connections get the new ones."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fastserve.config import ServerConfig
from fastserve.server.certificates import Certificates
from tests.support import models
from tests.support.authority import Authority
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S, until

PREDICT = "/v1/models/m:predict"
BODY = b'{"instances": [[1, 2]]}'


class Site:
    """A server's certificate and key, as files that are put there anew."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "authority")
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self._number = 0
        models.save(times(1), folder / "models" / "m" / "1")
        self.models = str(folder / "models")
        self.renew()

    def renew(self) -> None:
        """Another certificate with another key, one after the other, each by renaming."""
        self._number += 1
        for made, place in zip(
            self.authority.issue(f"number-{self._number}"), (self.certificate, self.key), strict=True
        ):
            fresh = place.with_suffix(".new")
            shutil.copy(made, fresh)
            fresh.rename(place)

    @property
    def name(self) -> str:
        """Whom the certificate names."""
        return f"number-{self._number}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--ssl-certificate", str(self.certificate), "--ssl-keyfile", str(self.key))

    def trusting(self) -> ssl.SSLContext:
        return self.authority.trusting()

    def served(self, port: int) -> str:
        """Whom the certificate names that a new connection is shown."""
        with (
            socket.create_connection(("127.0.0.1", port), WITHIN_S) as plain,
            self.trusting().wrap_socket(plain, server_hostname="127.0.0.1") as one,
        ):
            shown = one.getpeercert()
        assert shown is not None
        return dict(pair[0] for pair in shown["subject"])["commonName"]  # type: ignore[misc]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Clients:
    """Who ask again and again: on a connection that is kept, on a new one each time, and by HTTP/2."""

    def __init__(self, site: Site, port: int) -> None:
        self.answered: dict[str, int] = {}
        self.failed: list[str] = []
        self._over = threading.Event()
        asks = {"kept": self._kept, "fresh": self._fresh, "http2": self._http2}
        self._threads = [threading.Thread(target=self._run, args=(name, ask, site, port)) for name, ask in asks.items()]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WITHIN_S)

    def have_asked(self, more: int = 20) -> None:
        """Wait until each has been answered so often again."""
        before = dict(self.answered)
        until(
            lambda: bool(self.failed) or all(self.answered.get(name, 0) >= before.get(name, 0) + more for name in ASKS)
        )

    def _run(self, name: str, ask: Callable[[Site, int], Iterator[int]], site: Site, port: int) -> None:
        try:
            for status in ask(site, port):
                self.answered[name] = self.answered.get(name, 0) + 1
                if status != 200:
                    self.failed.append(f"{name}: {status}")
                if self._over.is_set() or self.failed:
                    return
        except Exception as error:
            self.failed.append(f"{name}: {error!r}")

    @staticmethod
    def _kept(site: Site, port: int) -> Iterator[int]:
        while True:
            with contextlib.closing(
                http.client.HTTPSConnection("127.0.0.1", port, context=site.trusting(), timeout=WITHIN_S)
            ) as one:
                asked_to_leave = False
                while not asked_to_leave:
                    one.request("POST", PREDICT, BODY)
                    answer = one.getresponse()
                    answer.read()
                    asked_to_leave = answer.getheader("connection") == "close"
                    yield answer.status

    @staticmethod
    def _fresh(site: Site, port: int) -> Iterator[int]:
        while True:
            with contextlib.closing(
                http.client.HTTPSConnection("127.0.0.1", port, context=site.trusting(), timeout=WITHIN_S)
            ) as one:
                one.request("POST", PREDICT, BODY)
                yield one.getresponse().status

    @staticmethod
    def _http2(site: Site, port: int) -> Iterator[int]:
        with httpx.Client(http2=True, verify=site.trusting(), timeout=WITHIN_S) as one:
            while True:
                yield one.post(f"https://127.0.0.1:{port}{PREDICT}", content=BODY).status_code


ASKS = ("kept", "fresh", "http2")
DOORS = [("--interface", "rsgi"), ("--interface", "asgi"), ("--workers", "2")]


@pytest.mark.parametrize("options", DOORS, ids=["rsgi", "asgi", "two workers"])
def test_new_certificates_are_served_and_no_request_fails(site: Site, options: tuple[str, ...]) -> None:
    with ServerProcess(site.models, *site.options, *options, tls=site.trusting()) as server:
        with Clients(site, server.port) as clients:
            for _ in range(2):
                clients.have_asked()
                site.renew()
                until(lambda: {site.served(server.port) for _ in range(4)} == {site.name})
                clients.have_asked()
        assert clients.failed == []
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 0


def test_only_when_asked_where_nothing_is_looked_at(site: Site) -> None:
    with ServerProcess(site.models, *site.options, "--poll-seconds", "0", tls=site.trusting()) as server:
        site.renew()
        assert site.served(server.port) == "number-1"
        server.process.send_signal(signal.SIGHUP)
        until(lambda: site.served(server.port) == "number-2")


def test_certificates_that_cannot_be_used_change_nothing_and_a_worker_that_starts_then_serves(site: Site) -> None:
    with ServerProcess(site.models, *site.options, tls=site.trusting()) as server:
        site.certificate.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "those that were read before are served on" in server.output)
        assert "server.pem: expected certificates in PEM (--ssl-certificate)" in server.output
        assert site.served(server.port) == "number-1"
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGKILL)
        assert site.served(server.port) == "number-1", "clients wait while the only worker is replaced"
        site.renew()
        until(lambda: site.served(server.port) == "number-2")


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[http.client.HTTPSConnection]:
    one = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=WITHIN_S)
    with contextlib.closing(one):
        yield one


def status(port: int, context: ssl.SSLContext) -> int:
    """Of /livez; 0 where no connection comes about."""
    with connected(port, context) as one:
        try:
            one.request("GET", "/livez")
            return one.getresponse().status
        except OSError:
            return 0


def test_authorities_that_are_taken_away_shut_their_clients_out(site: Site, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ours.certificate.read_bytes() + theirs.certificate.read_bytes())
    first, second = site.trusting(), site.trusting()
    first.load_cert_chain(*ours.issue("first"))
    second.load_cert_chain(*theirs.issue("second"))
    with (
        ServerProcess(site.models, *site.options, "--ssl-ca", str(trusted), tls=first) as server,
        connected(server.port, second) as kept,
    ):
        assert [status(server.port, one) for one in (first, second, site.trusting())] == [200, 200, 0]
        kept.connect()
        trusted.write_bytes(ours.certificate.read_bytes())
        until(lambda: status(server.port, second) == 0)
        assert status(server.port, first) == 200
        assert kept.sock.recv(1) == b"", "connections of before end too"


def test_clients_may_show_none_where_that_is_optional_but_no_foreign_one(site: Site, tmp_path: Path) -> None:
    known, foreign = Authority(tmp_path, "known"), Authority(tmp_path, "foreign")
    with_known, with_foreign = site.trusting(), site.trusting()
    with_known.load_cert_chain(*known.issue("one"))
    with_foreign.load_cert_chain(*foreign.issue("two"))
    options = (*site.options, "--ssl-ca", str(known.certificate), "--ssl-client-certificate", "optional")
    with ServerProcess(site.models, *options, tls=site.trusting()) as server:
        assert [status(server.port, one) for one in (site.trusting(), with_known, with_foreign)] == [200, 200, 0]


# --- which files are taken


def followed(site: Site) -> Certificates:
    return Certificates(ServerConfig(ssl_certificate=str(site.certificate), ssl_keyfile=str(site.key)))


def test_files_are_taken_once_they_look_the_same_twice_or_when_somebody_says_so(site: Site) -> None:
    files = followed(site)
    assert not files.look()
    assert not files.look(finished=True)
    site.renew()
    assert [files.look(), files.look(), files.look()] == [False, True, False]
    site.renew()
    assert files.look(finished=True)


def test_a_pair_of_which_one_is_there_yet_is_told_of_once_and_waited_for(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    files = followed(site)
    served = Path(files.arguments[1]).read_bytes()
    old_key = site.key.read_bytes()
    site.renew()
    new_key = site.key.read_bytes()
    site.key.write_bytes(old_key)
    assert [files.look() for _ in range(4)] == [False] * 4
    assert [record.getMessage().partition(" (--")[0] for record in caplog.records] == [
        "the changed certificates cannot be used, those that were read before are served on:"
        f" {site.key}: it is the key of another certificate"
    ]
    assert Path(files.arguments[1]).read_bytes() == served
    site.key.write_bytes(new_key)
    assert [files.look(), files.look()] == [False, True]
    assert Path(files.arguments[1]).read_bytes() == site.certificate.read_bytes()


def test_what_is_no_more_read_is_closed(site: Site) -> None:
    files = followed(site)
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        site.renew()
        assert files.look(finished=True)
    assert len(os.listdir("/proc/self/fd")) == open_files
