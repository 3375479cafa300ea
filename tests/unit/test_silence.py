"""Which connections are hung up on: the rule in time that stands still, and real sockets looked at by their numbers."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from fastserve.server.silence import (
    HANDSHAKE_MS,
    SLACK_MS,
    Askers,
    Rule,
    Silence,
    counted,
    silence,
)

LIMIT_NS = 30_000_000_000
ONE, OTHER = b"one", b"other"


def test_who_is_silent_for_the_limit_is_hung_up_on_and_not_before():
    rule = Rule(LIMIT_NS)
    assert not rule.sees(ONE, silent=True, now_ns=7)
    rule.end()
    assert not rule.sees(ONE, silent=True, now_ns=7 + LIMIT_NS - 1)
    assert not rule.sees(OTHER, silent=True, now_ns=7 + LIMIT_NS - 1)
    rule.end()
    assert rule.sees(ONE, silent=True, now_ns=7 + LIMIT_NS)
    assert not rule.sees(OTHER, silent=True, now_ns=7 + LIMIT_NS)


def test_who_has_spoken_is_never_asked_again():
    rule = Rule(LIMIT_NS)
    assert not rule.knows(ONE)
    assert not rule.sees(ONE, silent=False, now_ns=0)
    for _ in range(3):
        rule.end()
        assert rule.knows(ONE)


def test_who_is_gone_is_forgotten():
    rule = Rule(LIMIT_NS)
    for number in range(100):
        rule.sees(bytes([number]), silent=number % 2 == 0, now_ns=number)
        rule.end()
        assert len(rule) == 1
    rule.end()
    assert len(rule) == 0


class Clients:
    """A listener, and connections to it: both ends."""

    def __init__(self, family: int, stack: ExitStack) -> None:
        self.stack = stack
        self.listener = stack.enter_context(
            socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        )

    def connected(self) -> tuple[socket.socket, socket.socket]:
        """A client, and our end of it."""
        host, port, *_ = self.listener.getsockname()
        client = self.stack.enter_context(socket.create_connection((host, port)))
        client.settimeout(30)
        return client, self.stack.enter_context(self.listener.accept()[0])


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    with ExitStack() as stack:
        try:
            yield Clients(request.param, stack)
        except OSError:
            if request.param == socket.AF_INET:
                raise
            pytest.skip("no IPv6 here")


def watching(clients: Clients, *, over_tls: bool = False) -> Silence:
    watch = silence(clients.listener.fileno(), LIMIT_NS // 1_000_000, over_tls=over_tls)
    assert watch is not None
    clients.stack.callback(watch.close)
    return watch


def passes(watch: Silence, *times_ns: int) -> None:
    """Look at these times."""
    for now_ns in times_ns:
        watch.look(now_ns)


def is_open(ours: socket.socket) -> bool:
    """Whether nobody has hung up on it."""
    ours.setblocking(False)
    try:
        return ours.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True


def test_this_kernel_counts():
    assert counted()


@pytest.mark.parametrize(
    ("sent", "answered", "stays"),
    [
        (b"", b"", False),
        (b"P", b"", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", True),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200", True),
    ],
)
def test_what_can_have_been_no_request_is_hung_up_on(clients: Clients, sent: bytes, answered: bytes, stays: bool):
    client, ours = clients.connected()
    client.sendall(sent)
    ours.sendall(answered)
    received = b""
    while len(received) < len(sent):
        received += ours.recv(100)
    watch = watching(clients)
    passes(watch, 0, LIMIT_NS - 1)
    assert is_open(ours)
    passes(watch, LIMIT_NS)
    assert is_open(ours) == stays
    assert stays or client.recv(100) == b""


def test_it_needs_no_descriptor_where_there_is_none(clients: Clients):
    _, ours = clients.connected()
    watch = watching(clients)
    passes(watch, 0)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, before[1]))
    try:
        with suppress(OSError):
            while True:
                clients.stack.callback(os.close, os.dup(0))
        passes(watch, LIMIT_NS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not is_open(ours)


def test_nothing_else_is_touched(clients: Clients):
    with ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        pairs = [*socket.socketpair()]
        elsewhere = Clients(socket.AF_INET, stack)
        _, other = elsewhere.connected()
        read, write = os.pipe()
        try:
            passes(watching(clients), 0, LIMIT_NS, 2 * LIMIT_NS)
            clients.connected()  # it still listens
            assert all(is_open(one) for one in (other, *pairs))
            os.write(write, b"x")
            assert os.read(read, 1) == b"x"
        finally:
            for one in pairs:
                one.close()
            os.close(read)
            os.close(write)


def asked(watch: Silence) -> Askers:
    assert watch.askers is not None
    return watch.askers


def spelled(one: socket.socket) -> str:
    """Where a client is, as a door is told."""
    host, port, *more = one.getsockname()
    return f"[{host}]:{port}" if more else f"{host}:{port}"


def test_over_tls_whoever_has_asked_stays(clients: Clients):
    """Nothing can be told from bytes there: half a handshake has as many as a request."""
    watch = watching(clients, over_tls=True)
    askers = asked(watch)
    limit_ns = LIMIT_NS + (HANDSHAKE_MS + SLACK_MS) * 1_000_000
    (silent, at_once, late), ours = zip(*(clients.connected() for _ in range(3)), strict=True)
    silent.sendall(b"\x16\x03\x01" * 100)
    askers.note(spelled(at_once))
    passes(watch, 0, limit_ns - 1)
    askers.note(spelled(late))
    passes(watch, limit_ns, limit_ns + 1, 2 * limit_ns)
    assert silent.recv(1) == b""
    assert [is_open(one) for one in ours[1:]] == [True, True]


def test_a_port_that_asked_long_ago_vouches_for_nobody(clients: Clients):
    """Its next connection has to ask by itself."""
    watch = watching(clients, over_tls=True)
    askers = asked(watch)
    client, ours = clients.connected()
    askers.note(spelled(client))
    askers.begin()
    askers.begin()
    passes(watch, 0, 2 * LIMIT_NS)
    assert not is_open(ours)


def test_whoever_may_open_a_unix_socket_may_keep_it():
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("")
        assert silence(one.fileno(), 1000, over_tls=False) is None
