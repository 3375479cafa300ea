"""data_url from the disk and from object stores: what is below an allowed place, and nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import DataUrlConfig
from fastserve.errors import FastServeError, Forbidden, InvalidRequest, PayloadTooLarge
from fastserve.fetch.fetch import Fetcher
from fastserve.fetch.stores import NotInstalled


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "x.json").write_bytes(b"[1]")
    (folder / "a b.png").write_bytes(b"png")
    (folder / "deep" / "y.json").write_bytes(b"[2]")
    (tmp_path / "secret.json").write_bytes(b"secret")
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "z.json").write_bytes(b"secret")
    return folder


def fetcher(*allow: str, max_bytes: int = 1000) -> Fetcher:
    return Fetcher(DataUrlConfig(allow=allow, max_bytes=max_bytes))


def refusal(fetcher: Fetcher, url: str) -> FastServeError:
    with pytest.raises(FastServeError) as caught:
        fetcher.fetch(url)
    return caught.value


@pytest.mark.parametrize("start", ["file:", "file://", "file://localhost", "FILE:"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_files_below_the_folder_are_read(data: Path, start: str, slash: str) -> None:
    reader = fetcher(f"file:{data}{slash}")
    assert reader.fetch(f"{start}{data}/x.json").content == b"[1]"
    assert reader.fetch(f"{start}{data}/deep/y.json").content == b"[2]"
    found = reader.fetch(f"{start}{data}/a%20b.png")
    assert (found.content, found.content_type) == (b"png", "image/png")


OUTSIDE = [
    "file:{data}/../secret.json",
    "file:{data}/deep/../../secret.json",
    "file:{data}/%2e%2e/secret.json",
    "file:{data}/%252e%252e/secret.json",
    "file:{data}/..%2fsecret.json",
    "file:{data}/x.json%00",
    "file:{data}\\..\\secret.json",
    "file:{data}2/z.json",
    "file:{data}",
    "file:{data}/",
    "file:{data}/deep",
    "file:{data}/none.json",
    "file:///etc/passwd",
    "file://host{data}/x.json",
    "file:data/x.json",
    "file:x.json",
    "file:",
    "{data}/x.json",
    "http://localhost/x.json",
    "local://{data}/x.json",
]


@pytest.mark.parametrize("url", OUTSIDE)
def test_nothing_else_is(data: Path, url: str) -> None:
    error = refusal(fetcher(f"file:{data}/"), url.format(data=data))
    assert isinstance(error, Forbidden | InvalidRequest)
    assert "secret" not in str(error).replace("secret.json", "")


def test_links_within_the_folder_are_followed_and_others_not(data: Path) -> None:
    (data / "inner.json").symlink_to("deep/y.json")
    (data / "outer.json").symlink_to("../secret.json")
    (data / "absolute.json").symlink_to(data.parent / "secret.json")
    (data / "door").symlink_to("..")
    (data / "loop").symlink_to("loop")
    reader = fetcher(f"file:{data}/")
    assert reader.fetch(f"file:{data}/inner.json").content == b"[2]"
    for name in ("outer.json", "absolute.json", "door/secret.json"):
        assert isinstance(refusal(reader, f"file:{data}/{name}"), Forbidden)
    assert isinstance(refusal(reader, f"file:{data}/loop"), Forbidden | InvalidRequest)


def test_the_folder_itself_may_be_a_link(data: Path) -> None:
    link = data.parent / "link"
    link.symlink_to(data)
    assert fetcher(f"file:{link}").fetch(f"file:{link}/x.json").content == b"[1]"


def test_a_link_that_is_put_in_place_after_the_check_is_not_followed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.realpath

    def resolved_then_swapped(path: str, **options: bool) -> str:
        found = real(path, **options)
        if found.endswith("y.json"):
            (data / "deep").rename(data / "away")
            (data / "deep").symlink_to(data.parent)
            (data.parent / "y.json").write_bytes(b"secret")
        return found

    monkeypatch.setattr(os.path, "realpath", resolved_then_swapped)
    assert isinstance(refusal(fetcher(f"file:{data}"), f"file:{data}/deep/y.json"), Forbidden | InvalidRequest)


def test_what_is_no_file_is_not_waited_for(data: Path) -> None:
    os.mkfifo(data / "pipe.json")
    assert isinstance(refusal(fetcher(f"file:{data}"), f"file:{data}/pipe.json"), InvalidRequest)


def test_files_have_a_largest_size(data: Path) -> None:
    (data / "big.json").write_bytes(b"x" * 1001)
    assert isinstance(refusal(fetcher(f"file:{data}"), f"file:{data}/big.json"), PayloadTooLarge)
    assert len(fetcher(f"file:{data}", max_bytes=1001).fetch(f"file:{data}/big.json").content) == 1001


@given(st.lists(st.sampled_from(["..", ".", "", "deep", "x.json", "%2e", "%2F", "..%5c", "~", "data"]), max_size=6))
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "allowed"
    folder.mkdir(exist_ok=True)
    (folder.parent / "x.json").write_bytes(b"secret")
    try:
        content = fetcher(f"file:{folder}").fetch(f"file:{folder}/" + "/".join(parts)).content
    except FastServeError:
        return
    assert content != b"secret"


@pytest.fixture
def bucket() -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()
    for name in ("bucket/in/x.json", "bucket/out.json", "other/x.json"):
        system.pipe(f"/{name}", name.encode())


@pytest.mark.usefixtures("bucket")
def test_objects_of_a_bucket_are_read() -> None:
    found = fetcher("memory://bucket/in/").fetch("memory://bucket/in/x.json")
    assert (found.content, found.content_type) == (b"bucket/in/x.json", "application/json")


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    "url",
    [
        "memory://bucket/out.json",
        "memory://bucket/in/../out.json",
        "memory://bucket/in/%2e%2e/out.json",
        "memory://other/x.json",
        "memory://bucket.evil/in/x.json",
        "memory://bucket/in/none.json",
        "memory::file:///etc/passwd",
        "s3://bucket/in/x.json",
    ],
)
def test_no_other_objects_are(url: str) -> None:
    assert isinstance(refusal(fetcher("memory://bucket/in/"), url), Forbidden | InvalidRequest)


@pytest.mark.usefixtures("bucket")
def test_objects_have_a_largest_size() -> None:
    reader = fetcher("memory://bucket/in/", max_bytes=5)
    assert isinstance(refusal(reader, "memory://bucket/in/x.json"), PayloadTooLarge)


def test_a_store_without_its_package_is_told() -> None:
    error = refusal(fetcher("oss://bucket/"), "oss://bucket/x.json")
    assert isinstance(error, NotInstalled)
    assert "oss" in str(error)
