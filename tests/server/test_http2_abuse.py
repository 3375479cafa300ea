"""HTTP/2 used to hurt: streams opened and reset at once, headers without end. The connection may be lost, the server not."""

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import ContinuationFrame, HeadersFrame, RstStreamFrame
from onnx import TensorProto as T

from tests.support import models
from tests.support.served import wire
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S

PREDICT = "/v1/models/same:predict"
GOOD = b'{"instances": [[1, 2]]}'
HEADERS = [(":method", "POST"), (":path", PREDICT), (":scheme", "http"), (":authority", "test")]
STREAMS = 3000
CANCEL = 8


@pytest.fixture(scope="module", params=["rsgi", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("h2")
    models.save(models.identity(T.INT64), folder / "same" / "1")
    with ServerProcess(str(folder), "--interface", request.param) as server:
        yield server


class Attacker:
    """One connection, its frames made by hand where a good library would refuse."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection((server.host, server.port), WITHIN_S)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.socket.sendall(self.h2.data_to_send())

    def headers(self) -> bytes:
        """One block of headers; its fields are not remembered, so it may be sent on any stream."""
        return bytes(self.h2.encoder.encode([(name, value, True) for name, value in HEADERS]))

    def send(self, data: bytes) -> bool:
        """Whether the server still takes it."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True


def is_well(server: ServerProcess) -> bool:
    with wire(server) as one:
        answer = one.post(PREDICT, GOOD)
    return answer.status == 200 and msgspec.json.decode(answer.body) == {"predictions": [[1, 2]]}


def resident_mb(server: ServerProcess) -> float:
    """Memory of the parent and its workers."""
    pid = server.process.pid
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    statm = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in pids]
    return sum(statm) * 4096 / 1e6


def test_streams_that_are_reset_as_they_are_opened(server: ServerProcess):
    before = resident_mb(server)
    attacker = Attacker(server)
    block = attacker.headers()
    for number in range(STREAMS):
        opened = HeadersFrame(2 * number + 1, block, flags=["END_HEADERS"]).serialize()
        if not attacker.send(opened + RstStreamFrame(2 * number + 1, error_code=CANCEL).serialize()):
            break
    assert is_well(server), "while the attacker is still there"
    attacker.socket.close()
    assert is_well(server)
    assert resident_mb(server) - before < 50
    assert "Traceback" not in server.output


def test_headers_that_go_on_and_on(server: ServerProcess):
    before = resident_mb(server)
    attacker = Attacker(server)
    assert attacker.send(HeadersFrame(1, attacker.headers()).serialize())
    filler = bytes(attacker.h2.encoder.encode([("x-filler", "v" * 8000, True)]))
    sent = 0
    while sent < 64_000_000 and attacker.send(ContinuationFrame(1, filler).serialize()):
        sent += len(filler)
    assert sent < 64_000_000, "the server hangs up on it"
    assert is_well(server)
    attacker.socket.close()
    assert resident_mb(server) - before < 50
    assert "Traceback" not in server.output
