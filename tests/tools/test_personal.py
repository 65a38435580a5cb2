"""Personal data in the texts of infrastructure: what is found, and what only looks like it."""

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.server.masking import Masker
from arborgate.tools.personal import Kind, find_personal

FOUND = {
    "mail alice@example.com now": [(Kind.MAIL, "alice@example.com")],
    "Alice <alice.b+x@mail.example.co.uk>,": [(Kind.MAIL, "alice.b+x@mail.example.co.uk")],
    "söme@bücher.de x@163.com": [(Kind.MAIL, "söme@bücher.de"), (Kind.MAIL, "x@163.com")],
    "session:alice@example.com:1": [(Kind.MAIL, "alice@example.com")],
    "Signed-off-by: Bob <bob@example.org>\nmore": [(Kind.MAIL, "bob@example.org")],
    "GET /login?email=alice%40example.com&next=/ HTTP/1.1": [(Kind.MAIL, "alice%40example.com")],
    "clone https://alice@git.example.com/acme/shop.git": [(Kind.NAME, "alice")],
    "open /home/alice/.kube/config: denied": [(Kind.NAME, "alice")],
    "/Users/carol/src file:///home/dora/x /export/home/ed": [
        (Kind.NAME, "carol"),
        (Kind.NAME, "dora"),
        (Kind.NAME, "ed"),
    ],
    "C:\\Users\\bob\\x C:/Users/eve": [(Kind.NAME, "bob"), (Kind.NAME, "eve")],
    "C:\\Users\\Alice Smith\\AppData": [(Kind.NAME, "Alice Smith")],
    '"path":"C:\\\\Users\\\\bob\\\\x"': [(Kind.NAME, "bob")],
    "10.0.0.7:5512": [(Kind.IP, "10.0.0.7")],
    "dial tcp 10.42.3.7:6379: connection refused": [(Kind.IP, "10.42.3.7")],
    '{"client":"203.0.113.9","ip":"203.0.113.10"}': [(Kind.IP, "203.0.113.9"), (Kind.IP, "203.0.113.10")],
    "redis://10.0.0.1:6379/0 addr:10.0.0.2 IP=10.0.0.3.": [
        (Kind.IP, "10.0.0.1"),
        (Kind.IP, "10.0.0.2"),
        (Kind.IP, "10.0.0.3"),
    ],
    "8.8.8.8/32 ssh app@10.0.0.4": [(Kind.IP, "8.8.8.8"), (Kind.IP, "10.0.0.4")],
    "[2001:db8::1]:443 2001:db8:0:0:0:0:0:1": [(Kind.IP, "2001:db8::1"), (Kind.IP, "2001:db8:0:0:0:0:0:1")],
    "::ffff:10.0.0.9": [(Kind.IP, "10.0.0.9")],
}

SPARED = [
    "git@github.com:acme/shop.git",
    "ssh://git@git.example.com/acme/shop.git",
    "noreply@example.com and 1234+bot@users.noreply.github.com",
    "deploy@project.iam.gserviceaccount.com",
    "lodash@4.17.21-beta.x and app@sha256:ab12",
    "/home/node/app /home/app /Users/Shared /home/$USER /home/.cache",
    "main/home/alice and https://example.com/home/alice",
    "GET /home/products HTTP/1.1",
    "probe@prometheus-0.monitoring.svc getty@tty1.service targetRevision: 1.2.3.4 chart=1.2.3.4",
    "registry.example.org/shop/api:1.2.3.4 shop/api:1.2.3.4-beta",
    "v1.2.3.4 chart-1.2.3.4 version: 1.2.3.4 release 1.2.3.4 1.2.3.4-rc 1.2.3.4+k3s",
    "Chrome/120.0.0.0 Safari/537.36 1.2.3.4.5 0001.2.3.4 1.2.3.4a",
    "127.0.0.1:8484 0.0.0.0 ::1 fe80::1 169.254.169.254 224.0.0.1 255.255.255.255",
    "10.0.0.0/8 2001:db8::/32",
    "2026-11-21T08:10:00Z 10:20:30 08:10:00.123456 aa:bb:cc:dd:ee:ff std::vector dead::beef::1",
    "999.1.2.3 1.2.3 256.256.256.256",
    "the @ of a@b is no address, nor is @team or user@host",
]


@pytest.mark.parametrize("text", FOUND)
def test_personal_data_is_found_where_it_stands(text: str) -> None:
    found = list(find_personal(text))
    assert [(one.kind, one.text) for one in found] == FOUND[text]
    assert [text[one.start : one.end] for one in found] == [one.text for one in found]


@pytest.mark.parametrize("text", SPARED)
def test_what_only_looks_like_it_is_spared(text: str) -> None:
    assert list(find_personal(text)) == []


@given(
    st.lists(st.sampled_from([*FOUND, *SPARED, "a", " ", "/", "\\", "home", ".", "1", ":", "@"]), max_size=8).map(
        "".join
    )
)
def test_the_quick_look_never_misses_what_a_closer_one_finds(text: str) -> None:
    masker = Masker()
    for value in ({"a": text}, {"a": orjson.dumps({"b": text}).decode()}):
        assert masker.suspects(value) or not list(find_personal(value["a"]))


@pytest.mark.parametrize(
    "piece", ["1.", "10.0.0.1", "10.0.0.1/a", "abc:", "a@x.yy ", "a@", "@a.", "/home/a", "x1.1.1.1", "C:\\Users\\a "]
)
def test_the_time_it_takes_grows_no_faster_than_the_text(piece: str) -> None:
    masker = Masker()

    def measure(times: int) -> float:
        text = piece * times
        began = time.process_time()
        masker.mask_text(text, ())
        return time.process_time() - began

    measure(100)
    short = max(min(measure(2_000) for _ in range(3)), 0.001)
    assert measure(20_000) < 40 * short
