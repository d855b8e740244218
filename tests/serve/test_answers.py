"""Answers without sockets: conditions, ranges, and what is not there."""

from __future__ import annotations

import pytest
from made_site import APP, made_model, made_site

from yolo_distill.serve.answer import answer
from yolo_distill.serve.request_head import Refused, Request
from yolo_distill.serve.table import Entry, Table

BODY = bytes(range(100))
TABLE = Table({"a.wasm": Entry(BODY, "application/wasm"), "empty": Entry(b"", "text/plain")}, "0" * 16)
TAG = TABLE.entries["a.wasm"].etag


def ask(path: str = "/a.wasm", method: str = "GET", table: Table = TABLE, **headers: str):
    """Return status, headers and body."""
    reply = answer(table, Request(method, path, {name.replace("_", "-"): text for name, text in headers.items()}))
    line, *lines = reply.head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return int(line.split()[1]), dict(one.split(": ", 1) for one in lines), bytes(reply.body)


def test_a_whole_file():
    status, headers, body = ask()
    assert (status, body, headers["Content-Length"], headers["ETag"]) == (200, BODY, "100", TAG)
    assert (headers["Accept-Ranges"], headers["Cache-Control"]) == ("bytes", "no-cache")


def test_head_says_the_same_without_the_body():
    status, headers, body = ask(method="HEAD", range="bytes=0-1")
    assert (status, body) == (200, b"")
    assert {**headers, "Date": ""} == {**ask()[1], "Date": ""}


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
def test_a_part(asked, first, end):
    status, headers, body = ask(range=asked)
    assert (status, body) == (206, BODY[first:end])
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/100"
    assert headers["Content-Length"] == str(end - first)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=5000-6000", "bytes=-0", "bytes=999999999999999999-"])
def test_a_part_beyond_the_end(asked):
    status, headers, body = ask(range=asked)
    assert (status, headers["Content-Range"]) == (416, "bytes */100")
    assert body == b"the file has 100 bytes\n"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=²-3", "bytes 0-1", "bytes=1" * 99],
)
def test_other_ranges_get_all(asked):
    assert ask(range=asked)[::2] == (200, BODY)


def test_a_part_of_nothing():
    assert ask("/empty", range="bytes=-5")[0] == 416
    assert ask("/empty", range="bytes=0-")[0] == 416
    assert ask("/empty")[::2] == (200, b"")


def test_a_part_only_of_the_file_that_the_client_began():
    assert ask(range="bytes=0-1", if_range=TAG)[::2] == (206, BODY[:2])
    for other in (f"W/{TAG}", '"other"', "Wed, 25 Nov 2026 10:00:00 GMT"):
        assert ask(range="bytes=0-1", if_range=other)[::2] == (200, BODY)


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_a_file_that_the_client_has(tags):
    status, headers, body = ask(if_none_match=tags, range="bytes=0-1")
    assert (status, body, headers["ETag"]) == (304, b"", TAG)
    assert "Content-Length" not in headers


@pytest.mark.parametrize("tags", ['"x"', "", TAG.strip('"'), f"x{TAG}"])
def test_a_file_that_the_client_does_not_have(tags):
    assert ask(if_none_match=tags)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "//", "/a.wasm/", "/A.WASM", "/./a.wasm", "//a.wasm", "/x/../a.wasm", "/%61.wasm", "/a.wasm%00", "/a.wasm\\",
        "/..%2fa.wasm", "/a.wasm;x", "/files", "",
    ],
)  # fmt: skip
def test_only_the_very_address(path):
    with pytest.raises(Refused, match="nothing at this address") as refused:
        ask(path)
    assert refused.value.status == 404


def test_the_page_is_at_the_root(tmp_path):
    table = made_site(tmp_path).table()
    assert ask("/", table=table)[2] == ask("/index.html", table=table)[2] == APP["index.html"]


def test_only_the_model_never_changes(tmp_path):
    table = made_site(tmp_path).table()
    caches = {address: ask(f"/{address}", table=table)[1]["Cache-Control"] for address in table.entries}
    address = made_model().address
    assert caches.pop(address) == "public, max-age=31536000, immutable"
    assert set(caches.values()) == {"no-cache"}


def test_a_model_of_long_ago_is_missed_in_words(tmp_path):
    with pytest.raises(Refused, match="another one took its place") as refused:
        ask("/model/0123456789abcdef.onnx", table=made_site(tmp_path).table())
    assert refused.value.status == 404
