"""data_url over HTTPS: read from who is who it says it is, within the time, and from nobody else."""

import socket
from collections.abc import Iterator

import pytest

from fastserve.config import DataUrlConfig
from fastserve.errors import DeadlineExceeded, FastServeError, Forbidden, InvalidRequest
from fastserve.fetch import web as fetched_web
from fastserve.fetch.fetch import Fetcher
from tests.support.authority import Authority
from tests.support.web import Site, site


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def web(authority: Authority) -> Iterator[Site]:
    with site(authority.issue("web")) as found:
        found.page("/data/x.json", b"[[1, 2]]")
        found.redirect("/data/on", "/data/x.json")
        found.redirect("/data/out", "/elsewhere.json")
        yield found


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is among those that the machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))


def fetcher(web: Site, host: str = "127.0.0.1", timeout_ms: int = 20_000) -> Fetcher:
    return Fetcher(DataUrlConfig(allow=(web.url("/data/", host),), timeout_ms=timeout_ms))


def refusal(found: Fetcher, url: str) -> FastServeError:
    with pytest.raises(FastServeError) as raised:
        found.fetch(url)
    return raised.value


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("path", ["/data/x.json", "/data/on"])
def test_what_a_prefix_names_is_read(web: Site, path: str) -> None:
    found = fetcher(web).fetch(web.url(path))
    assert (found.content, found.content_type) == (b"[[1, 2]]", "application/json")


@pytest.mark.usefixtures("trusted")
def test_certificates_of_authorities_are_read_once(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found, made = fetcher(web), []
    make = fetched_web.ssl.create_default_context
    monkeypatch.setattr(fetched_web.ssl, "create_default_context", lambda: made.append(make()) or made[-1])
    for _ in range(3):
        found.fetch(web.url("/data/x.json"))
    assert len(made) == 1


@pytest.mark.usefixtures("trusted")
def test_a_redirect_out_of_the_list_is_refused(web: Site) -> None:
    assert isinstance(refusal(fetcher(web), web.url("/data/out")), Forbidden)


def test_an_authority_that_nobody_knows_is_not_trusted(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    before = len(web.asked)
    error = refusal(fetcher(web), web.url("/data/x.json"))
    assert isinstance(error, InvalidRequest)
    assert "no certificate that this server trusts" in str(error)
    assert len(web.asked) == before, "nothing is said to a stranger"


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_name_is_none(web: Site) -> None:
    error = refusal(fetcher(web, "localhost"), web.url("/data/x.json", "localhost"))
    assert "no certificate that this server trusts" in str(error)
    assert "localhost" in str(error)


@pytest.mark.usefixtures("trusted")
def test_who_speaks_no_tls_is_told() -> None:
    with site() as plain:
        plain.page("/data/x.json", b"[[1, 2]]")
        allowed = Fetcher(DataUrlConfig(allow=(f"https://127.0.0.1:{plain.port}/data/",), timeout_ms=20_000))
        assert str(refusal(allowed, f"https://127.0.0.1:{plain.port}/data/x.json")) == fetched_web.UNREACHABLE


@pytest.mark.usefixtures("trusted")
def test_a_handshake_has_the_time_of_the_whole() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/data/"
        allowed = Fetcher(DataUrlConfig(allow=(url,), timeout_ms=50))
        assert isinstance(refusal(allowed, url + "x.json"), DeadlineExceeded)
