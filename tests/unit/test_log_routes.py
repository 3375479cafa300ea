"""The paths below /log, through the whole application: what callers see of the log, and what they may do to it."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pytest

from fastserve.config import load_config
from fastserve.server.app import App, create_app
from fastserve.store.compactor import LOCK
from fastserve.store.disk import DISK
from fastserve.store.frames import Kind
from fastserve.store.rows import Row
from tests.support.doors import Answer, AsgiDoor, Sent
from tests.support.log_store import READERS, actual, row

KEYS = {
    "all": 'scopes = ["read", "admin"]',
    "one model": 'scopes = ["read", "admin"]\nmodels = ["m"]',
    "one space": 'scopes = ["read"]\nspaces = ["t"]',
}
ODD = "a/b?c#d%20\"'; drop\n💡.."


class Server:
    """An application with a log, and what is written to it."""

    def __init__(self, folder: Path) -> None:
        lines = ["[log]", 'directory = "log"', 'sync = "os"']
        env = {}
        for number, (name, rights) in enumerate(KEYS.items()):
            lines += ["[[auth.keys]]", f'name = "{name}"', f'key = "${{KEY_{number}}}"', rights]
            env[f"KEY_{number}"] = f"a-secret-key-for-{name}"
        file = folder / "fastserve.toml"
        file.write_text("\n".join(lines))
        DISK.make_folder(folder / "log")
        self._lock = DISK.lock(folder / "log" / LOCK)  # the server's own compactor knows other frames than these
        self.app: App = create_app(load_config([str(folder)], file=str(file), env=env))
        self.door = AsgiDoor(self.app)
        self.door.open()
        self.app.engine.log_readers = READERS

    def close(self) -> None:
        self.door.close()
        assert self._lock is not None
        DISK.close(self._lock)

    def write(self, *rows: Row) -> None:
        """Acknowledged when it returns."""
        told = threading.Event()
        log = self.app.engine.log
        assert log is not None
        log.append([(Kind.RECORD, msgspec.msgpack.encode(rows))], lambda error: told.set())
        assert told.wait(30)

    def send(self, method: str, path: str, body: Any = None, key: str = "all", **headers: str) -> Answer:
        headers = {"x-api-key": f"a-secret-key-for-{key}", "host": "x", **headers}
        return self.door.send(Sent(method, path, headers, b"" if body is None else json.dumps(body).encode()))

    def get(self, path: str, key: str = "all") -> Any:
        answer = self.send("GET", path, key=key)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def ask(self, sql: str, key: str = "all", **more: Any) -> list[Any]:
        answer = self.send("POST", "/log/query", {"sql": sql, **more}, key)
        assert answer.status == 200, answer.body
        rows: list[Any] = json.loads(answer.body)["rows"]
        return rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("log"))
    server.write(row(0, label_num=None, label_cat="yes", score=0.75, features={"age": 2**60 + 1}, tags={"t": "x"}))
    server.write(
        actual(0, label_num=None, label_cat="no", tags={"late": "y"}, seq=20),
        row(0, kind="importance", label_num=None, features={}, importances={"age": 0.5}, seq=21),
    )
    server.write(row(1, space="t"), row(1, space="u", seq=30), row(2, space="t", model_id="n", seq=31))
    server.write(row(3, prediction_id=ODD, label_num=float("nan"), seq=40), row(4, model_id="a/b", seq=41))
    yield server
    server.close()


def test_a_record_is_told_with_everything_that_belongs_to_it(server: Server) -> None:
    assert server.get("/log/records/m/p0") == {
        "model_id": "m",
        "prediction_id": "p0",
        "space": "s",
        "environment": "production",
        "batch_id": None,
        "prediction": {
            "timestamp": "2024-10-04T01:00:00Z",
            "received": "2024-10-04T01:00:00Z",
            "model_version": "1",
            "label": {"categorical": "yes", "score": 0.75},
            "features": {"age": 2**60 + 1},
            "tags": {"t": "x"},
        },
        "actual": {
            "timestamp": "2024-10-04T01:00:00Z",
            "received": "2024-10-04T01:00:00Z",
            "label": {"categorical": "no"},
            "tags": {"late": "y"},
        },
        "feature_importances": {
            "timestamp": "2024-10-04T01:00:00Z",
            "received": "2024-10-04T01:00:00Z",
            "model_version": "1",
            "values": {"age": 0.5},
        },
    }


def test_ids_and_models_may_hold_anything(server: Server) -> None:
    found = server.get(f"/log/records/m/{quote(ODD, safe='')}")
    assert found["prediction_id"] == ODD
    assert found["prediction"]["label"] == {"numeric": "NaN"}
    assert server.get("/log/records/a%2Fb/p4")["model_id"] == "a/b"


def test_an_id_in_several_spaces_takes_the_space(server: Server) -> None:
    answer = server.send("GET", "/log/records/m/p1")
    assert answer.status == 400
    assert b"?space=" in answer.body
    assert server.get("/log/records/m/p1?space=u")["space"] == "u"
    assert server.get("/log/records/m/p1", "one space")["space"] == "t"


@pytest.mark.parametrize("path", ["m/nobody", "nobody/p0", "m/p0?space=nobody", "x/%ff%fe", "m/" + "x" * 600])
def test_what_is_not_there_is_404(server: Server, path: str) -> None:
    answer = server.send("GET", f"/log/records/{path}")
    assert answer.status == 404
    assert b"there is no record" in answer.body


def test_models_are_listed_with_what_is_joined(server: Server) -> None:
    found = {one["model_id"]: one for one in server.get("/log/models")["models"]}
    assert sorted(found) == ["a/b", "m", "n"]
    one = found["m"]
    assert (one["predictions"], one["actuals"], one["joined"], one["unjoined"]) == (4, 1, 1, 3)
    assert (one["spaces"], one["feature_importances"], one["records"]) == (["s", "t", "u"], 1, 6)
    assert one["label_delay_p50_s"] == 0.0


def test_callers_see_what_they_may(server: Server) -> None:
    assert [one["model_id"] for one in server.get("/log/models", "one model")["models"]] == ["m"]
    assert [one["spaces"] for one in server.get("/log/models", "one space")["models"]] == [["t"], ["t"]]
    sql = "select model_id, space from records group by all order by all"
    assert server.ask(sql, "one model") == [["m", "s"], ["m", "t"], ["m", "u"]]
    assert server.ask(sql, "one space") == [["m", "t"], ["n", "t"]]
    assert server.ask(sql, "one model", model="n") == []
    for path, key in (("n/p2", "one model"), ("m/p0", "one space")):
        assert server.send("GET", f"/log/records/{path}", key=key).status == 404


def test_questions_take_parameters_and_say_what_columns_they_found(server: Server) -> None:
    body = {
        "sql": 'select "f.age" as age, ts from predictions where prediction_id = ?',
        "parameters": ["p0"],
        "model": "m",
    }
    answer = server.send("POST", "/log/query", body)
    assert json.loads(answer.body) == {
        "columns": [{"name": "age", "type": "BIGINT"}, {"name": "ts", "type": "TIMESTAMP"}],
        "rows": [[2**60 + 1, "2024-10-04T01:00:00"]],
        "truncated": False,
    }


def test_rows_are_cut_where_there_are_too_many(server: Server) -> None:
    answer = server.send("GET", "/log/query?sql=select%20*%20from%20range(10)&max_rows=3")
    assert json.loads(answer.body)["rows"] == [[0], [1], [2]]
    assert json.loads(answer.body)["truncated"]
    assert answer.headers["fastserve-truncated"] == "true"


def test_answers_come_as_arrow_where_that_is_asked_for(server: Server) -> None:
    body = {"sql": "select prediction_id from predictions order by 1", "model": "n"}
    answer = server.send("POST", "/log/query", body, accept="application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(io.BytesIO(answer.body)).read_all().to_pylist() == [{"prediction_id": "p2"}]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `sql`"),
        (b'{"sql": 1}', "$.sql"),
        (b'{"sql": "select 1", "max_rows": 0}', "$.max_rows"),
        (b'{"sql": "select 1", "parameters": [[]]}', "$.parameters[0]"),
        (b'{"sql": "select ?", "parameters": [1180591620717411303424]}', "$.parameters[0]"),
        (b'{"sql": "select 1", "more": 1}', "unknown field `more`"),
        (b'{"sql": "selec 1"}', "selec"),
        (b'{"sql": "select nothing from records"}', "nothing"),
        (b'{"sql": "select ?"}', "parameter"),
        (b'{"sql": "select * from read_csv(\'/etc/passwd\')"}', "read_csv"),
        (b'{"sql": "copy records to \'/tmp/x\'"}', "expected one SELECT"),
        (b"[" * 100_000, ""),
    ],
)
def test_what_cannot_be_asked_is_400_and_says_why(server: Server, body: bytes, says: str) -> None:
    answer = server.door.send(Sent("POST", "/log/query", {"x-api-key": "a-secret-key-for-all", "host": "x"}, body))
    assert answer.status == 400, answer.body
    assert says in json.loads(answer.body)["error"]


def test_wrong_paths_methods_and_parameters(server: Server) -> None:
    assert server.send("GET", "/log/nothing").status == 404
    assert server.send("POST", "/log/models").status == 405
    assert server.send("GET", "/log/query?nothing=1").status == 400
    assert server.send("GET", "/log/records/m/p0?spice=s").status == 400


def test_a_deleted_record_is_gone_at_once_and_others_stay(server: Server) -> None:
    for space in ("s", "t"):
        server.write(row(7, space=space, seq=70), actual(7, space=space, seq=71))
    path = "/log/records/m/p7"
    assert server.send("DELETE", path, key="one space").status == 403
    told = server.send("DELETE", path + "?space=s")
    assert json.loads(told.body) == {"model_id": "m", "prediction_id": "p7", "spaces": ["s"], "deleted": 2}
    assert server.get(path)["space"] == "t"
    assert server.send("DELETE", path, key="one model").status == 200
    assert server.send("GET", path).status == 404
    assert server.send("DELETE", path).status == 404
    assert server.send("DELETE", "/log/records/n/p2", key="one model").status == 404


def test_without_a_log_the_paths_say_how_to_have_one(tmp_path: Path) -> None:
    door = AsgiDoor(create_app(load_config([str(tmp_path)])))
    door.open()
    for method, path in (("GET", "/log/models"), ("GET", "/log/records/m/p"), ("GET", "/log/query?sql=select%201")):
        answer = door.send(Sent(method, path, {"host": "x"}))
        assert answer.status == 404
        assert b"--log-dir" in answer.body
    door.close()


@pytest.mark.parametrize(("setting", "counted"), [("", 1), ("count_duplicates = true", 3)])
def test_a_prediction_that_is_logged_again_counts_as_the_settings_say(
    tmp_path: Path, setting: str, counted: int
) -> None:
    file = tmp_path / "fastserve.toml"
    file.write_text(f'[log]\ndirectory = "log"\nsync = "os"\n{setting}\n')
    door = AsgiDoor(create_app(load_config([str(tmp_path)], file=str(file))))
    door.open()
    try:
        for label in (1.0, 2.0, 3.0):
            body = {"model_id": "m", "prediction_id": "p", "prediction": {"prediction_label": {"numeric": label}}}
            assert door.send(Sent("POST", "/v1/log", body=json.dumps(body).encode())).status == 200
        (model,) = json.loads(door.send(Sent("GET", "/log/models")).body)["models"]
        assert model["versions"] == []  # none of them says one
        assert (model["predictions"], model["records"]) == (counted, 3)
        assert json.loads(door.send(Sent("GET", "/log/records/m/p")).body)["prediction"]["label"] == {"numeric": 3.0}
    finally:
        door.close()
