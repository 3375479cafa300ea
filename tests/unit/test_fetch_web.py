"""data_url over HTTP: what the allow-list names is read, under a size and a time; everything else is refused."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from fastserve.config import DataUrlConfig
from fastserve.config.allowed import read_entry
from fastserve.errors import DeadlineExceeded, FastServeError, Forbidden, InvalidRequest, PayloadTooLarge
from fastserve.fetch.fetch import Fetcher
from fastserve.fetch.limits import Limits
from fastserve.fetch.web import Web
from tests.support.clockwork import FakeClock
from tests.support.web import Site, dripping, site

BODY = b'{"inputs":[[1,2]]}'


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as found:
        found.page("/data/x.json", BODY)
        yield found


def fetcher(*allow: str, **options: int) -> Fetcher:
    return Fetcher(DataUrlConfig(allow=allow, **options))


def refusal(fetcher: Fetcher, url: str) -> FastServeError:
    with pytest.raises(FastServeError) as caught:
        fetcher.fetch(url)
    return caught.value


def test_nothing_is_read_unless_something_is_allowed(web: Site) -> None:
    error = refusal(fetcher(), web.url("/data/x.json"))
    assert isinstance(error, Forbidden)
    assert "[data_url] allow" in str(error)
    assert web.asked == []


def test_what_a_prefix_names_is_read(web: Site) -> None:
    found = fetcher(web.url("/data/")).fetch(web.url("/data/x.json?version=2"))
    assert (found.content, found.content_type) == (BODY, "application/json")
    assert web.asked == [("/data/x.json?version=2", f"127.0.0.1:{web.port}")]


@pytest.mark.parametrize(
    "path", ["/data/", "/data", "/", "", "/data/x.json"], ids=["folder", "no slash", "root", "nothing", "file"]
)
def test_prefixes_end_at_a_slash(web: Site, path: str) -> None:
    assert fetcher(web.url(path)).fetch(web.url("/data/x.json")).content == BODY
    web.page("/database.json", b"secret")
    if path.startswith("/data"):
        assert isinstance(refusal(fetcher(web.url(path)), web.url("/database.json")), Forbidden)


TRICKS = [
    "http://127.0.0.1:{port}/other/x.json",
    "http://127.0.0.1:{port}/data/../other",
    "http://127.0.0.1:{port}/data/./x.json",
    "http://127.0.0.1:{port}/data/%2e%2e/other",
    "http://127.0.0.1:{port}/data/..;/other",
    "http://127.0.0.1:{port}/data/..;a=b%2e/other",
    "http://127.0.0.1:{port}/data/%2e.%3b/other",
    "http://127.0.0.1:{port}/data/%252e%252e/other",
    "http://127.0.0.1:{port}/data/..%2fother",
    "http://127.0.0.1:{port}/data/%2525252525252e",
    "http://127.0.0.1:{port}/data\\..\\other",
    "http://127.0.0.1:{port}/data/%5c..%5cother",
    "http://127.0.0.1:{port}/data/x%00.json",
    "http://user@127.0.0.1:{port}/data/x.json",
    "http://127.0.0.1:{port}@evil.example/data/x.json",
    "http://evil.example#@127.0.0.1:{port}/data/x.json",
    "http://127.0.0.1:{port}.evil.example/data/x.json",
    "http://127.0.0.1:1/data/x.json",
    "http://127.0.0.1:{port}:80/data/x.json",
    "http://127.0.0.1:99999999/data/x.json",
    "https://127.0.0.1:{port}/data/x.json",
    "http://localhost:{port}/data/x.json",
    "http://2130706433:{port}/data/x.json",
    "http://0x7f.1:{port}/data/x.json",
    "http://0x7f000001:{port}/data/x.json",
    "http://017700000001:{port}/data/x.json",
    "http://127.1:{port}/data/x.json",
    "http://127.0.1:{port}/data/x.json",
    "http://0:{port}/data/x.json",
    "http://0.0.0.0:{port}/data/x.json",
    "http://[::1]:{port}/data/x.json",
    "http://[::ffff:127.0.0.1]:{port}/data/x.json",
    "http://[0:0:0:0:0:ffff:7f00:1]:{port}/data/x.json",
    "http://127.0.0.1.nip.io:{port}/data/x.json",
    "http://\u2460\u2461\u2466.0.0.1:{port}/data/x.json",
    "http://169.254.169.254/latest/meta-data/",
    "http:/127.0.0.1:{port}/data/x.json",
    "http:127.0.0.1:{port}/data/x.json",
    "//127.0.0.1:{port}/data/x.json",
    " http://127.0.0.1:{port}/data/x.json",
    "http://127.0.0.1:{port}/data/x.json\r\nX-Header: 1",
    "http://[::1/data",
    "gopher://127.0.0.1:{port}/data/x.json",
    "ftp://127.0.0.1:{port}/data/x.json",
    "file:///etc/passwd",
    "simplecache::http://127.0.0.1:{port}/data/x.json",
    "data:application/json,{{}}",
    "s3://bucket/data/x.json",
    "memory://bucket/data/x.json",
    "",
    "http://127.0.0.1:{port}/data/" + "a" * 5000,
]


@pytest.mark.parametrize("url", TRICKS)
def test_no_other_spelling_gets_anywhere(web: Site, url: str) -> None:
    error = refusal(fetcher(web.url("/data/")), url.format(port=web.port))
    assert isinstance(error, Forbidden | InvalidRequest)
    assert len(str(error)) < 600
    assert web.asked == []


class Names:
    """A resolver that answers differently each time, and a connect that says where it was led."""

    def __init__(self, *answers: list[str], port: int) -> None:
        self._answers = list(answers)
        self._port = port
        self.connected: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        return self._answers.pop(0)

    def connect(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.connected.append(address[0])
        return socket.create_connection(("127.0.0.1", self._port), timeout_s)


def read(web: Site, names: Names, *allow: str, url: str = "http://data.example/data/x.json") -> bytes:
    entries = [read_entry(one) for one in (allow or ("http://data.example/data/",))]
    prefixes = tuple(one for one in entries if hasattr(one, "scheme"))
    networks = tuple(one for one in entries if not hasattr(one, "scheme"))
    reader = Web(prefixes, networks, resolve=names.resolve, connect=names.connect)  # type: ignore[arg-type]
    clock = FakeClock()
    return reader.read(url, Limits(1000, clock() + 10**10, clock))[0]


def test_a_public_name_is_read(web: Site) -> None:
    names = Names(["93.184.216.34"], port=web.port)
    assert read(web, names) == BODY
    assert names.connected == ["93.184.216.34"]
    assert web.asked == [("/data/x.json", "data.example")]


PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("among", [[], ["93.184.216.34"]], ids=["alone", "among others"])
def test_a_name_of_a_private_address_is_refused(web: Site, address: str, among: list[str]) -> None:
    names = Names([*among, address], port=web.port)
    with pytest.raises(Forbidden, match="private") as caught:
        read(web, names)
    assert names.connected == []
    assert address not in str(caught.value)


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.0.0.7", "10.0.0.7/24"])
def test_an_address_that_the_list_names_is_reached(web: Site, network: str) -> None:
    names = Names(["10.0.0.7"], port=web.port)
    assert read(web, names, "http://data.example/data/", network) == BODY


def test_a_name_that_means_another_address_a_moment_later_leads_nowhere(web: Site) -> None:
    # What is connected to is what was checked: nobody asks for the name again.
    names = Names(["93.184.216.34"], ["127.0.0.1"], port=web.port)
    assert read(web, names) == BODY
    assert names.connected == ["93.184.216.34"]
    with pytest.raises(Forbidden):
        read(web, names)
    assert names.connected == ["93.184.216.34"]


def test_a_redirect_is_resolved_and_checked_again(web: Site) -> None:
    web.redirect("/data/moved.json", "/data/x.json")
    names = Names(["93.184.216.34"], ["127.0.0.1"], port=web.port)
    with pytest.raises(Forbidden, match="private"):
        read(web, names, url="http://data.example/data/moved.json")
    assert names.connected == ["93.184.216.34"]
    assert [path for path, _ in web.asked] == ["/data/moved.json"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_list_is_followed(web: Site, status: int) -> None:
    web.redirect("/data/moved.json", "x.json", status)
    assert fetcher(web.url("/data/")).fetch(web.url("/data/moved.json")).content == BODY


@pytest.mark.parametrize(
    "target",
    [
        "/other/x.json",
        "../other/x.json",
        "http://169.254.169.254/latest/",
        "http://localhost:{port}/data/x.json",
        "http://user:secret@127.0.0.1:{port}/data/x.json",
        "/data/..;/other/x.json",
        "zip://x.json::http://127.0.0.1:{port}/data/x.json",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//evil.example/data/",
        "http://[::1/",
    ],
)
def test_a_redirect_out_of_the_list_is_refused(web: Site, target: str) -> None:
    web.page("/other/x.json", BODY)
    web.redirect("/data/moved.json", target.format(port=web.port))
    error = refusal(fetcher(web.url("/data/")), web.url("/data/moved.json"))
    assert isinstance(error, Forbidden | InvalidRequest)
    assert [path for path, _ in web.asked] == ["/data/moved.json"]


def test_redirects_end(web: Site) -> None:
    web.redirect("/data/round.json", "/data/round.json")
    assert "redirects" in str(refusal(fetcher(web.url("/data/")), web.url("/data/round.json")))
    assert len(web.asked) == 6


def test_too_large_is_refused_before_it_is_read(web: Site) -> None:
    web.page("/data/big.json", b"x", Content_Length="10000000000")
    error = refusal(fetcher(web.url("/data/"), max_bytes=100), web.url("/data/big.json"))
    assert isinstance(error, PayloadTooLarge)
    web.page("/data/fits.json", b"x" * 100)
    assert len(fetcher(web.url("/data/"), max_bytes=100).fetch(web.url("/data/fits.json")).content) == 100
    assert isinstance(refusal(fetcher(web.url("/data/"), max_bytes=99), web.url("/data/fits.json")), PayloadTooLarge)


def test_what_does_not_say_its_size_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with dripping(head, b"x" * 100_000) as port:
        url = f"http://127.0.0.1:{port}/"
        assert isinstance(refusal(fetcher(url, max_bytes=1_000_000), url), PayloadTooLarge)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "each"), [(HEAD, b"x"), (b"HTTP/1.1 200 OK\r\n", b"a"), (b"", b"H"), (HEAD, b"")], ids=str
)
def test_a_byte_now_and_then_does_not_begin_the_time_anew(first: bytes, each: bytes) -> None:
    with dripping(first, each) as port:
        url = f"http://127.0.0.1:{port}/"
        assert isinstance(refusal(fetcher(url, timeout_ms=200), url), DeadlineExceeded | InvalidRequest)


def test_the_requests_own_deadline_counts(web: Site) -> None:
    with pytest.raises(DeadlineExceeded):
        fetcher(web.url("/data/")).fetch(web.url("/data/x.json"), deadline_ns=1)
    assert web.asked == []


@pytest.mark.parametrize(
    ("content", "headers", "said"),
    [
        (b"short", {"Content_Length": "100"}, "less than its length"),
        (b"zipped", {"Content_Encoding": "gzip"}, "compressed"),
    ],
)
def test_odd_answers_are_told(web: Site, content: bytes, headers: dict[str, str], said: str) -> None:
    web.page("/data/odd.json", content, **headers)
    assert said in str(refusal(fetcher(web.url("/data/")), web.url("/data/odd.json")))


def test_a_status_is_told(web: Site) -> None:
    assert "404" in str(refusal(fetcher(web.url("/data/")), web.url("/data/none.json")))


def test_a_server_that_hangs_up_is_told(web: Site) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.connection.shutdown(socket.SHUT_RDWR)

    web.pages["/data/gone.json"] = hang_up
    assert "cannot be reached" in str(refusal(fetcher(web.url("/data/")), web.url("/data/gone.json")))


def test_nothing_of_the_environment_takes_part(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetcher(web.url("/data/")).fetch(web.url("/data/x.json")).content == BODY


@pytest.mark.parametrize(
    "entry", ["nonsense", "ftp://host/", "http:///x", "http://user:secret@host/", "http://host/?a=1", "file:relative"]
)
def test_entries_that_name_nothing_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"expected|is not read"):
        read_entry(entry)
