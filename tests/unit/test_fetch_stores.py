"""data_url of object stores over a network: an asynchronous file system of fsspec stands for S3."""

import asyncio
import importlib
from typing import Any, ClassVar

import pytest
from fsspec.asyn import AsyncFileSystem

from fastserve.config import DataUrlConfig
from fastserve.errors import DeadlineExceeded, FastServeError, Forbidden, InvalidRequest, PayloadTooLarge
from fastserve.fetch.fetch import Fetcher

OBJECTS = {
    "bucket/in/x.json": b"[[1, 2]]",
    "bucket/in/empty.json": b"",
    "bucket/in/big.json": b"1" * 101,
    "bucket/in/unsized.json": b"[[3]]",
    "bucket/in/unsized-big.json": b"1" * 101,
    "bucket/out.json": b"secret",
}


class Store(AsyncFileSystem):
    """What s3fs is, as far as it is asked: names without a scheme, calls that wait for a network."""

    protocol = "s3"
    cachable = False
    read: ClassVar[list[tuple[str, int, int]]] = []

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        if "slow" in path:
            await asyncio.sleep(3600)
        if path not in OBJECTS:
            raise FileNotFoundError(path)
        return {"name": path, "type": "file"} | ({} if "unsized" in path else {"size": len(OBJECTS[path])})

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        if "denied" in path:
            raise PermissionError(path)
        self.read.append((path, start or 0, end or 0))
        return OBJECTS[path][start:end]


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> type[Store]:
    known = importlib.import_module("fsspec.registry")._registry
    monkeypatch.setitem(known, "s3", Store)
    Store.read.clear()
    return Store


def fetcher(timeout_ms: int = 20_000) -> Fetcher:
    return Fetcher(DataUrlConfig(allow=("s3://bucket/in/",), max_bytes=100, timeout_ms=timeout_ms))


def refusal(name: str, timeout_ms: int = 20_000) -> FastServeError:
    with pytest.raises(FastServeError) as raised:
        fetcher(timeout_ms).fetch(f"s3://bucket/{name}")
    return raised.value


@pytest.mark.parametrize("name", ["x", "empty", "unsized"])
def test_objects_below_the_prefix_are_read(name: str) -> None:
    found = fetcher().fetch(f"s3://bucket/in/{name}.json")
    assert (found.content, found.content_type) == (OBJECTS[f"bucket/in/{name}.json"], "application/json")


def test_an_object_is_read_in_one_go_and_no_further_than_its_size(store: type[Store]) -> None:
    fetcher().fetch("s3://bucket/in/x.json")
    assert store.read == [("bucket/in/x.json", 0, 8)]


@pytest.mark.parametrize("name", ["big", "unsized-big"])
def test_objects_have_a_largest_size(name: str, store: type[Store]) -> None:
    assert isinstance(refusal(f"in/{name}.json"), PayloadTooLarge)
    assert all(end <= 101 for _, _, end in store.read), "no more is asked for than shows that it is too much"


def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    assert isinstance(refusal("in/slow.json", timeout_ms=50), DeadlineExceeded)


@pytest.mark.parametrize("name", ["in/none.json", "in/denied.json"])
def test_what_cannot_be_read_is_told(name: str) -> None:
    assert isinstance(refusal(name), InvalidRequest)


@pytest.mark.parametrize("name", ["out.json", "in/../out.json", "in/%2e%2e/out.json"])
def test_no_other_objects_are(name: str, store: type[Store]) -> None:
    assert isinstance(refusal(name), Forbidden | InvalidRequest)
    assert store.read == []
