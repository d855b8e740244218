"""Answers: conditions, ranges, and what is not there."""

from __future__ import annotations

import http.client
from types import SimpleNamespace

import pytest
from made_site import APP, get, made_model, running

from yolo_distill.serve.routes import Entry, Table

BODY = bytes(range(100))
TABLE = Table({"a.wasm": Entry(BODY, "application/wasm"), "empty": Entry(b"", "text/plain")}, "0" * 16)
TAG = TABLE.entries["a.wasm"].etag


@pytest.fixture(scope="module")
def served():
    with running(SimpleNamespace(table=lambda: TABLE)) as server:
        yield server


@pytest.fixture
def ask(served):
    """Return a function that asks once and returns status, headers and body."""

    def once(path: str = "/a.wasm", method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        response, body = get(served, path, method, **headers)
        return response.status, response.headers, body

    return once


def test_head_says_the_same_as_get_without_the_body(ask):
    status, whole, body = ask()
    assert (status, body, whole["Content-Length"], whole["ETag"]) == (200, BODY, "100", TAG)
    assert (whole["Accept-Ranges"], whole["Cache-Control"]) == ("bytes", "no-cache")
    status, headers, body = ask(method="HEAD", range="bytes=0-1")
    assert (status, body) == (200, b"")
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
    assert (status, headers["Content-Range"], body) == (416, "bytes */100", b"the file has 100 bytes\n")
    assert ask("/empty", range=asked)[0] == 416


@pytest.mark.parametrize(
    "headers",
    [
        *({"range": one} for one in ("bytes=5-4", "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "lines=0-1", "bytes 0-1")),
        *({"range": one} for one in ("bytes=²-3", "bytes=1" * 99)),
        # Another file than that which the client began.
        *({"range": "bytes=0-1", "if_range": one} for one in (f"W/{TAG}", '"other"', "Wed, 25 Nov 2026 10:00:00 GMT")),
        *({"if_none_match": tags} for tags in ('"x"', "", TAG.strip('"'), f"x{TAG}")),
    ],
    ids=str,
)
def test_the_whole_file(headers, ask):
    assert ask(**headers)[::2] == (200, BODY)


def test_a_part_of_the_file_that_the_client_began(ask):
    assert ask(range="bytes=0-1", if_range=TAG)[::2] == (206, BODY[:2])


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_a_file_that_the_client_has(tags, ask):
    status, headers, body = ask(if_none_match=tags, range="bytes=0-1")
    assert (status, body, headers["ETag"], headers["Content-Length"]) == (304, b"", TAG, None)


def test_everything_in_the_table_is_served_as_it_is(server, site):
    model = made_model()
    for address, entry in site.table().entries.items():
        response, body = get(server, f"/{address}")
        assert (response.status, body, response.headers["Content-Type"]) == (200, entry.body, entry.kind)
        never_changes = address == model.address
        assert response.headers["Cache-Control"] == (
            "public, max-age=31536000, immutable" if never_changes else "no-cache"
        )
    assert get(server, "/")[1] == get(server, "/?shared")[1] == APP["index.html"]
