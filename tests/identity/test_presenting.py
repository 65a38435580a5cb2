"""What comes with a token: one header of each kind, and a target that no forwarded header has a say in."""

import pytest
from starlette.types import Scope

from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.presenting import BEARER, Scheme, read_token

URL = "https://arborgate.test"


def make_scope(*headers: tuple[str, str], path: str = "/mcp", raw_path: bytes | None = None) -> Scope:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"method": "POST", "path": path, "raw_path": raw_path or path.encode(), "headers": encoded}


def test_a_bearer_token_comes_with_nothing() -> None:
    assert read_token(make_scope(("authorization", "Bearer abc")), URL) == ("abc", BEARER)
    assert read_token(make_scope(("authorization", "bearer  abc ")), URL)[1] is BEARER
    assert read_token(make_scope(("authorization", "Bearer abc"), ("dpop", "proof")), URL)[1] is BEARER


@pytest.mark.parametrize("header", [(), (("authorization", "Basic YTpi"),), (("dpop", "proof"),)])
def test_what_is_no_token_is_none(header: tuple[tuple[str, str], ...]) -> None:
    assert read_token(make_scope(*header), URL) == ("", BEARER)


def test_a_proof_comes_with_what_it_must_be_for() -> None:
    scope = make_scope(("authorization", "DPoP abc"), ("dpop", "proof"))
    token, presented = read_token(scope, URL)
    assert token == "abc"
    assert (presented.scheme, presented.proof) == (Scheme.DPOP, "proof")
    assert (presented.method, presented.url) == ("POST", f"{URL}/mcp")
    assert presented.scope is scope


def test_two_headers_of_a_kind_are_refused() -> None:
    twice = make_scope(("authorization", "Bearer abc"), ("authorization", "Bearer abc"))
    with pytest.raises(Unauthenticated) as caught:
        read_token(twice, URL)
    assert caught.value.flaw is Flaw.REQUEST
    with pytest.raises(Unauthenticated) as caught:
        read_token(make_scope(("authorization", "DPoP abc"), ("dpop", "a"), ("dpop", "a")), URL)
    assert caught.value.flaw is Flaw.PROOF_FORMAT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forwarded", "host=evil.test;proto=http"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-url", "/evil"),
        ("host", "evil.test"),
    ],
)
def test_no_header_has_a_say_in_what_a_proof_must_be_for(name: str, value: str) -> None:
    scope = make_scope(("authorization", "DPoP abc"), ("dpop", "proof"), (name, value))
    assert read_token({**scope, "scheme": "http", "server": ("evil.test", 1), "root_path": "/x"}, URL)[1].url == (
        f"{URL}/mcp"
    )


def test_a_target_keeps_the_escapes_that_it_was_asked_with() -> None:
    headers = ("authorization", "DPoP abc"), ("dpop", "proof")
    asked = make_scope(*headers, path="/approvals/a/b c", raw_path=b"/approvals/a%2Fb%20c")
    assert read_token(asked, URL)[1].url == f"{URL}/approvals/a%2Fb%20c"
    bare = {name: value for name, value in asked.items() if name != "raw_path"}
    assert read_token(bare, URL)[1].url == f"{URL}/approvals/a/b%20c"
