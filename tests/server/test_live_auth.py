"""Users, keys and datasets that change in the configuration's file while a server serves, in every worker."""

from pathlib import Path

import pytest

from fastserve.access.hashes import hash_key
from tests.server.test_spice import times
from tests.support import models
from tests.support.served import wire
from tests.support.server import ServerProcess
from tests.support.waiting import until

FIRST, SECOND = "the-first-key-of-many-chars", "the-second-key-of-many-chars"
BODY = b'{"instances": [[1, 2]]}'
PREDICT = "/v1/models/m:predict"
DATASET = "[[datasets]]\nname = 'd'\nfrom = 'd.csv'\n"


class Shop:
    """A configuration's file, and who gets in."""

    def __init__(self, folder: Path) -> None:
        models.save(times(2), folder / "models" / "m" / "1")
        self.file = folder / "fastserve.toml"
        self.folder = folder
        self.write()

    def write(self, *keys: str, datasets: str = "", dataset: str = "") -> None:
        entries = [f"[[auth.keys]]\nname = 'k{i}'\nkey_hash = '{hash_key(key)}'" for i, key in enumerate(keys)]
        model = f"[[models]]\nname = 'm'\n{dataset}\n"
        fresh = self.folder / "fresh"
        fresh.write_text("\n".join(["[repository]\npath = 'models'\npoll_seconds = 0.1", model, datasets, *entries]))
        fresh.rename(self.file)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def statuses(server: ServerProcess, key: str = "") -> set[int]:
    """What a key gets from several connections: from each worker, most likely."""
    headers = [f"X-API-Key: {key}"] if key else []
    found = set()
    for _ in range(8):
        with wire(server) as one:
            found |= {one.post(PREDICT, BODY, *headers).status for _ in range(2)}
    return found


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--interface", "asgi")], ids=["one", "two", "asgi"])
def test_keys_come_and_go_in_every_worker(shop: Shop, options: tuple[str, ...]) -> None:
    with ServerProcess(str(shop.file), *options) as server:
        assert statuses(server) == {200}
        shop.write(FIRST)
        until(lambda: statuses(server) == {401})
        assert statuses(server, FIRST) == {200}
        shop.write(FIRST, SECOND)
        until(lambda: statuses(server, SECOND) == {200})
        assert statuses(server, FIRST) == {200}
        shop.write(SECOND)
        until(lambda: statuses(server, FIRST) == {401})
        assert statuses(server, SECOND) == {200}
        shop.write()
        until(lambda: "it names no users and no keys any more" in server.output)
        assert statuses(server) == {401}
        assert [key for key in (FIRST, SECOND, "blake2b") if key in server.output] == []


def test_datasets_come_while_it_serves(shop: Shop) -> None:
    with ServerProcess(str(shop.file), "--workers", "2") as server:
        (shop.folder / "d.csv").write_text("a,b\n1,2\n")
        shop.write(datasets=DATASET, dataset="dataset = 'd'")

        def predicted() -> set[bytes]:
            found = set()
            for _ in range(6):
                with wire(server) as one:
                    found.add(one.get("/v1/models/m/predict").body.partition(b',"duration')[0])
            return found

        until(lambda: all(b'"prediction":[2.0,4.0]' in body for body in predicted()))
