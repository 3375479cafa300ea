"""data_url of S3 as its own client for Python asks for it: signed requests, to a stand-in on loopback."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from fastserve.config import DataUrlConfig
from fastserve.errors import DeadlineExceeded, FastServeError, Forbidden, InvalidRequest, PayloadTooLarge
from fastserve.fetch.fetch import Fetcher
from tests.support.waiting import WITHIN_S
from tests.support.web import Site, site

s3fs = pytest.importorskip("s3fs")

CONTENT = b"[[1, 2], [3, 4]]"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The store, and an environment in which that is where S3 is."""
    none = tmp_path_factory.mktemp("s3") / "none"
    with site() as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", found.url(""))
        patch.setenv("AWS_ACCESS_KEY_ID", "the-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "here-1")
        patch.setenv("AWS_CONFIG_FILE", str(none))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(none))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        s3fs.S3FileSystem.clear_instance_cache()
        yield found
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def signed(s3: Site) -> list[str]:
    """Who signed each request for the object."""
    signatures: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        signatures.append(request.headers.get("authorization", ""))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        part = CONTENT[int(asked[1]) : int(asked[2]) + 1] if asked else CONTENT
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(part)))
        request.send_header("ETag", '"1"')
        if asked:
            request.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{len(CONTENT)}")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(part)

    s3.pages["/bucket/in/x.json"] = answer
    return signatures


def fetcher(max_bytes: int = 100, timeout_ms: int = 50_000) -> Fetcher:
    return Fetcher(DataUrlConfig(allow=("s3://bucket/in/",), max_bytes=max_bytes, timeout_ms=timeout_ms))


def refusal(found: Fetcher, url: str) -> FastServeError:
    with pytest.raises(FastServeError) as raised:
        found.fetch(url)
    return raised.value


def test_an_object_is_read_as_whom_the_environment_names(signed: list[str]) -> None:
    found = fetcher().fetch("s3://bucket/in/x.json")
    assert (found.content, found.content_type) == (CONTENT, "application/json")
    assert signed
    assert all("Credential=the-key/" in one and "Signature=" in one for one in signed)


def test_an_object_has_a_largest_size(s3: Site) -> None:
    s3.page("/bucket/in/big.json", b"1" * 101, ETag='"1"')
    assert isinstance(refusal(fetcher(), "s3://bucket/in/big.json"), PayloadTooLarge)


@pytest.mark.parametrize(
    "name", ["none.json", "x.json::file:///etc/passwd", "..%2f..%2fout.json", "../out.json", "..;/out.json"]
)
def test_what_is_not_there_or_in_two_ways_is_told(s3: Site, name: str) -> None:
    assert isinstance(refusal(fetcher(), f"s3://bucket/in/{name}"), InvalidRequest)


@pytest.mark.parametrize("url", ["s3://bucket/out.json", "s3://other/in/x.json", "s3://key:secret@bucket/in/x.json"])
def test_nothing_else_is_asked_for(s3: Site, url: str) -> None:
    before = len(s3.asked)
    assert isinstance(refusal(fetcher(), url), Forbidden)
    assert len(s3.asked) == before


def test_a_store_that_does_not_answer_is_not_waited_for(s3: Site) -> None:
    over = threading.Event()
    s3.pages["/bucket/in/slow.json"] = lambda _: over.wait(WITHIN_S) and None
    try:
        assert isinstance(refusal(fetcher(timeout_ms=300), "s3://bucket/in/slow.json"), DeadlineExceeded)
    finally:
        over.set()
