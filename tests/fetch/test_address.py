"""Only public addresses, and only those that were checked."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from pipelines.fetch.address import Resolver, is_public, parse
from pipelines.fetch.result import FetchProblem
from schemas.reasons import Outcome

_PRIVATE = """
    127.0.0.1 127.255.0.9 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 192.0.2.1
    198.18.0.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fc00::1 fd12::1 ff02::1 2001:db8::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::7f00:1 64:ff9b:1:ffff::a9fe:a9fe 64:ff9b:1::808:808 ::127.0.0.1 ::a9fe:a9fe ::8.8.8.8
    ::ffff:0:7f00:1 ::ffff:0:808:808 fec0::1 feff::1 2002:c0a8:101::1 2002:a9fe:a9fe::
    2001:0:4136:e378:8000:63bf:80ff:fffe 2001:0:7f00:1:0:0:f7f7:f7f7 2001:0:808:808:0:0:f7f7:f7f7
    100::1 3fff::1 5f00::1 4000::1 2001:20::1
"""
PRIVATE = tuple(_PRIVATE.split())
_PUBLIC = """
    8.8.8.8 1.1.1.1 172.32.0.1 100.128.0.1 2606:4700::1111 2a00:1450:4001::200e 2002:808:808::1
    64:ff9b::808:808 ::ffff:8.8.8.8
"""
PUBLIC = tuple(_PUBLIC.split())


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "normal", "netloc"),
    [
        ("http://Example.ORG/a b.jpg", "http://example.org/a%20b.jpg", "example.org"),
        (" https://example.org:443/ä?x=1&y#part ", "https://example.org/%C3%A4?x=1&y", "example.org"),
        ("http://example.org:8080", "http://example.org:8080/", "example.org:8080"),
        ("http://[2001:db8::1]:81/x", "http://[2001:db8::1]:81/x", "[2001:db8::1]:81"),
        ("http://example.org./x", "http://example.org/x", "example.org"),
        ("http://example.org/a%20b%C3%A4", "http://example.org/a%20b%C3%A4", "example.org"),
        ("http://example.org/x\r\nHost: evil", "http://example.org/x%0D%0AHost:%20evil", "example.org"),
    ],
)
def test_parse(url: str, normal: str, netloc: str) -> None:
    target = parse(url)
    assert (target.url, target.netloc) == (normal, netloc)
    assert parse(target.url) == target


@pytest.mark.parametrize(
    "url",
    ["", "   ", "x", "//host/x", "ftp://host/x", "http://", "http:///x", "http://a:b@host/", "http://host:99999/",
     "http://host:0/", "http://[::1", "http://[fe80::1%25eth0]/", "javascript:alert(1)", "data:image/png;base64,AA=="],
)  # fmt: skip
def test_bad_addresses(url: str) -> None:
    with pytest.raises(FetchProblem) as caught:
        parse(url)
    assert caught.value.outcome == Outcome.BAD_URL


class Names:
    """A name server that answers what it is told, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: int, **kwargs: Any) -> list[tuple]:
        self.asked += 1
        answer = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


def places(resolver: Resolver) -> list[tuple[str, int]]:
    return resolver.places(parse("http://example.org/x"), 5)


def test_one_private_answer_among_many_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(FetchProblem) as caught:
        places(Resolver({}))
    assert caught.value.outcome == Outcome.FORBIDDEN_ADDRESS


def test_a_name_that_changes_its_mind_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    resolver = Resolver({})
    assert places(resolver) == places(resolver) == [("8.8.8.8", 80)]  # numbers: connecting asks no name server
    assert names.asked == 1


def test_a_slow_name_server_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(10))
    with pytest.raises(FetchProblem) as caught:
        Resolver({}).places(parse("http://example.org/x"), 0.05)
    release.set()
    assert caught.value.outcome == Outcome.TIMEOUT


def test_overrides_hold_for_their_host_and_port_only() -> None:
    resolver = Resolver({"Example.org:80": "127.0.0.1:4321", "six.test:443": "[::1]:9"})
    assert places(resolver) == [("127.0.0.1", 4321)]
    assert resolver.places(parse("https://six.test/"), 5) == [("::1", 9)]
    with pytest.raises(FetchProblem):
        resolver.places(parse("http://127.0.0.1:4321/"), 5)
    for wrong in ({"host": "1.2.3.4:5"}, {"host:80": "1.2.3.4"}, {"host:80": "1.2.3.4:http"}):
        with pytest.raises(ValueError, match="resolve: expected"):
            Resolver(wrong)
