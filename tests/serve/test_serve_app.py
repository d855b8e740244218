"""Answers: conditions, ranges, and what is not there."""

from __future__ import annotations

import http.client
from types import SimpleNamespace

import pytest
from made_site import APP, get, made_model, made_site, running

from yolo_distill.serve.routes import Entry, Table

BODY = bytes(range(100))
TABLE = Table({"a.wasm": Entry(BODY, "application/wasm"), "empty": Entry(b"", "text/plain")}, "0" * 16)
TAG = TABLE.entries["a.wasm"].etag


@pytest.fixture(scope="module")
def served():
    """Return a server, and the site that it shows, of which tests take another table."""
    site = SimpleNamespace(shown=TABLE, table=lambda: site.shown)
    with running(site) as server:
        yield server, site


@pytest.fixture
def ask(served):
    """Return a function that asks once and returns status, headers and body."""
    server, site = served

    def once(
        path: str = "/a.wasm", method: str = "GET", table: Table = TABLE, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        site.shown = table
        response, body = get(server, path, method, **headers)
        return response.status, response.headers, body

    return once


def test_a_whole_file(ask):
    status, headers, body = ask()
    assert (status, body, headers["Content-Length"], headers["ETag"]) == (200, BODY, "100", TAG)
    assert (headers["Accept-Ranges"], headers["Cache-Control"]) == ("bytes", "no-cache")


def test_head_says_the_same_without_the_body(ask):
    status, headers, body = ask(method="HEAD", range="bytes=0-1")
    assert (status, body) == (200, b"")
    whole = ask()[1]
    del headers["Date"], whole["Date"]
    assert sorted(headers.items()) == sorted(whole.items())


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=0-", 0, 100),
        ("bytes=90-5000", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-5000", 0, 100),
        ("bytes= 5-6", 5, 7),
    ],
)
def test_a_part(asked, first, end, ask):
    status, headers, body = ask(range=asked)
    assert (status, body) == (206, BODY[first:end])
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/100"
    assert headers["Content-Length"] == str(end - first)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=5000-6000", "bytes=-0", "bytes=999999999999999999-"])
def test_a_part_beyond_the_end(asked, ask):
    status, headers, body = ask(range=asked)
    assert (status, headers["Content-Range"]) == (416, "bytes */100")
    assert body == b"the file has 100 bytes\n"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=²-3", "bytes 0-1", "bytes=1" * 99],
)
def test_other_ranges_get_all(asked, ask):
    assert ask(range=asked)[::2] == (200, BODY)


def test_a_part_of_nothing(ask):
    assert ask("/empty", range="bytes=-5")[0] == 416
    assert ask("/empty", range="bytes=0-")[0] == 416
    assert ask("/empty")[::2] == (200, b"")


def test_a_part_only_of_the_file_that_the_client_began(ask):
    assert ask(range="bytes=0-1", if_range=TAG)[::2] == (206, BODY[:2])
    for other in (f"W/{TAG}", '"other"', "Wed, 25 Nov 2026 10:00:00 GMT"):
        assert ask(range="bytes=0-1", if_range=other)[::2] == (200, BODY)


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_a_file_that_the_client_has(tags, ask):
    status, headers, body = ask(if_none_match=tags, range="bytes=0-1")
    assert (status, body, headers["ETag"]) == (304, b"", TAG)
    assert "Content-Length" not in headers


@pytest.mark.parametrize("tags", ['"x"', "", TAG.strip('"'), f"x{TAG}"])
def test_a_file_that_the_client_does_not_have(tags, ask):
    assert ask(if_none_match=tags)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "//", "/a.wasm/", "/A.WASM", "/./a.wasm", "//a.wasm", "/x/../a.wasm", "/%61.wasm", "/a.wasm%00", "/a.wasm\\",
        "/..%2fa.wasm", "/a.wasm;x", "/files",
    ],
)  # fmt: skip
def test_only_the_very_address(path, ask):
    assert ask(path)[::2] == (404, b"there is nothing at this address\n")


def test_the_page_is_at_the_root(tmp_path, ask):
    table = made_site(tmp_path).table()
    assert ask("/", table=table)[2] == ask("/index.html", table=table)[2] == APP["index.html"]


def test_only_the_model_never_changes(tmp_path, ask):
    table = made_site(tmp_path).table()
    caches = {address: ask(f"/{address}", table=table)[1]["Cache-Control"] for address in table.entries}
    address = made_model().address
    assert caches.pop(address) == "public, max-age=31536000, immutable"
    assert set(caches.values()) == {"no-cache"}


def test_a_model_of_long_ago_is_missed_in_words(tmp_path, ask):
    status, _, body = ask("/model/0123456789abcdef.onnx", table=made_site(tmp_path).table())
    assert (status, b"another one took its place" in body) == (404, True)
