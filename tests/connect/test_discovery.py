"""Discovery: from a URL to where one logs in, and what is not believed on the way."""

from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.policies.errors import Invalid, Unavailable
from arborgate.server.connect.challenges import Challenge, read_challenges
from arborgate.server.connect.discovery import find_mcp, find_provider
from arborgate.server.connect.entries import check_url, mcp_url, origin_of
from arborgate.server.connect.web import Web
from tests.connect.net import ISSUER, ISSUER_URL, MCP, PROVIDER, RESOURCE, RESOURCE_URL, URL, Net, challenge
from tests.connect.office import Office

pytestmark = pytest.mark.anyio


async def test_a_real_arborgate_and_its_provider_are_found(office: Office) -> None:
    web = Web()
    place = await find_mcp(web, f"{office.url}/mcp")
    await web.close()
    provider = place.provider
    assert (place.audience, provider.issuer) == (f"{office.url}/mcp", office.provider.issuer)
    assert (provider.binds, provider.client_id_metadata_document_supported, place.bound_only) == (True, True, False)
    assert place.scope == "openid profile offline_access"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://a.test", "https://a.test/mcp"),
        ("https://a.test/", "https://a.test/mcp"),
        ("https://a.test/mcp", "https://a.test/mcp"),
        ("https://a.test/gate/mcp/", "https://a.test/gate/mcp"),
        ("http://127.0.0.1:8484", "http://127.0.0.1:8484/mcp"),
    ],
)
async def test_an_arborgate_is_named_with_or_without_its_endpoint(url: str, found: str) -> None:
    assert mcp_url(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test",
        "ftp://127.0.0.1",
        "a.test",
        "https://",
        "https://ada:secret@a.test",
        "https://a.test/?token=1",
        "https://a.test/#x",
        "https://a.test:port",
        "https://[a.test",
        "http://127.0.0.1.a.test",
    ],
)
async def test_a_login_is_sent_over_https_or_loopback_alone(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url, "URL")


async def test_the_description_is_found_by_the_challenge_or_where_it_must_be() -> None:
    net = Net.usual()
    assert (await find_mcp(net.web, MCP)).provider.issuer == ISSUER
    assert net.urls == [MCP, RESOURCE_URL, ISSUER_URL]
    net = Net.usual()
    net.answers[MCP] = challenge("Bearer")
    assert (await find_mcp(net.web, MCP)).provider.issuer == ISSUER
    elsewhere = f"{URL}/described"
    net = Net.usual()
    net.answers[MCP] = challenge(f'DPoP algs="ES256", resource_metadata="{elsewhere}"')
    net.answers[elsewhere] = net.answers.pop(RESOURCE_URL)
    assert (await find_mcp(net.web, MCP)).provider.issuer == ISSUER


@pytest.mark.parametrize(
    ("url", "answer", "words"),
    [
        (MCP, challenge('Bearer resource_metadata="https://evil.test/described"'), "another server"),
        (MCP, challenge(f'Bearer resource_metadata="{URL}:8443/described"'), "another server"),
        (MCP, httpx2.ConnectError("refused"), "does not answer"),
        (RESOURCE_URL, {**RESOURCE, "resource": "https://evil.test/mcp"}, "calls itself https://evil.test/mcp"),
        (RESOURCE_URL, {**RESOURCE, "resource": URL}, f"calls itself {URL}"),
        (RESOURCE_URL, {**RESOURCE, "authorization_servers": []}, "where to log in"),
        (RESOURCE_URL, {**RESOURCE, "authorization_servers": ["http://login.test"]}, "neither https nor"),
        (RESOURCE_URL, {**RESOURCE, "authorization_servers": "x"}, "authorization_servers"),
        (RESOURCE_URL, httpx2.Response(200, text="<html>"), "no Arborgate"),
        (RESOURCE_URL, httpx2.Response(302, headers={"Location": "https://evil.test"}), "no Arborgate"),
        (RESOURCE_URL, httpx2.Response(200, content=b" " * 300_000), "more than a login needs"),
        (ISSUER_URL, {**PROVIDER, "issuer": "https://evil.test"}, "another one"),
        (ISSUER_URL, {**PROVIDER, "issuer": f"{ISSUER}/"}, "another one"),
        (ISSUER_URL, {**PROVIDER, "token_endpoint": "http://login.test/token"}, "neither https nor"),
        (ISSUER_URL, {**PROVIDER, "authorization_endpoint": "javascript:alert(1)"}, "neither https nor"),
        (ISSUER_URL, {"issuer": ISSUER}, "token_endpoint"),
        (ISSUER_URL, httpx2.Response(302, headers={"Location": "https://evil.test"}), "describe itself"),
        (ISSUER_URL, httpx2.Response(503), "answers with an error"),
    ],
)
async def test_nothing_that_is_not_as_it_must_be_is_believed(url: str, answer: Any, words: str) -> None:
    net = Net.usual()
    net.answers[url] = answer
    with pytest.raises(Unavailable, match=words):
        await find_mcp(net.web, MCP)
    assert not [asked for asked in net.urls if "evil" in asked or asked.startswith("http:")]


async def test_of_several_providers_the_first_is_taken_or_the_one_that_is_asked_for() -> None:
    net = Net.usual()
    second = "https://login.neighbour.test"
    net.answers[RESOURCE_URL] = {**RESOURCE, "authorization_servers": [ISSUER, second]}
    net.answers[f"{second}/.well-known/openid-configuration"] = {**PROVIDER, "issuer": second}
    assert (await find_mcp(net.web, MCP)).provider.issuer == ISSUER
    assert (await find_mcp(net.web, MCP, second)).provider.issuer == second
    assert (await find_mcp(net.web, MCP, before=second)).provider.issuer == second
    assert (await find_mcp(net.web, MCP, ISSUER, before=second)).provider.issuer == ISSUER
    assert (await find_mcp(net.web, MCP, before="https://evil.test")).provider.issuer == ISSUER
    with pytest.raises(Invalid, match=r"does not trust the issuer 'https://evil\.test'") as refused:
        await find_mcp(net.web, MCP, "https://evil.test")
    assert refused.value.hint == f"It trusts: {ISSUER}, {second}."


async def test_a_provider_with_a_path_is_looked_for_in_three_places() -> None:
    issuer = "https://login.test/realms/ops"
    net = Net()
    with pytest.raises(Unavailable):
        await find_provider(net.web, issuer)
    assert net.urls == [
        "https://login.test/.well-known/oauth-authorization-server/realms/ops",
        "https://login.test/.well-known/openid-configuration/realms/ops",
        "https://login.test/realms/ops/.well-known/openid-configuration",
    ]
    for url in net.urls:
        found = Net({url: {**PROVIDER, "issuer": issuer}})
        assert (await find_provider(found.web, issuer)).issuer == issuer


async def test_scopes_are_those_that_the_provider_has_and_those_that_the_resource_wants() -> None:
    net = Net.usual(scopes_supported=["openid", "offline_access"])
    net.answers[RESOURCE_URL] = {**RESOURCE, "scopes_supported": ["arborgate:read"]}
    assert (await find_mcp(net.web, MCP)).scope == "openid offline_access arborgate:read"
    net.answers[MCP] = challenge(f'Bearer scope="arborgate:see", resource_metadata="{RESOURCE_URL}"')
    assert (await find_mcp(net.web, MCP)).scope == "openid offline_access arborgate:see"


async def test_members_that_are_null_are_as_if_they_were_not_there() -> None:
    net = Net.usual()
    net.answers[ISSUER_URL] = {**PROVIDER, "registration_endpoint": None, "scopes_supported": None}
    assert (await find_mcp(net.web, MCP)).provider.registration_endpoint == ""


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ("Bearer", [Challenge("bearer", {})]),
        (
            'Bearer realm="a, b", error=invalid_token',
            [Challenge("bearer", {"realm": "a, b", "error": "invalid_token"})],
        ),
        (
            'Bearer resource_metadata="https://a.test/x?y=1", DPoP error="use_dpop_nonce", algs="ES256 EdDSA"',
            [
                Challenge("bearer", {"resource_metadata": "https://a.test/x?y=1"}),
                Challenge("dpop", {"error": "use_dpop_nonce", "algs": "ES256 EdDSA"}),
            ],
        ),
        (
            r'DPoP error_description="say \"no\", \\ twice"',
            [Challenge("dpop", {"error_description": r'say "no", \ twice'})],
        ),
        (
            "Negotiate a87421000000==, Bearer max_age = 60",
            [Challenge("negotiate", {}), Challenge("bearer", {"max_age": "60"})],
        ),
        ('error="x"', []),
        ('Bearer error="a", error="b"', [Challenge("bearer", {"error": "a"})]),
        ('Bearer, DPoP error="unfinished', [Challenge("bearer", {})]),
    ],
)
async def test_challenges_are_read_as_they_are_written(header: str, challenges: list[Challenge]) -> None:
    assert read_challenges(header) == challenges


@given(st.text(alphabet='abB="\\, \tDPoP', max_size=200))
async def test_no_header_can_break_the_reading_of_challenges(header: str) -> None:
    assert all(each.scheme == each.scheme.lower() for each in read_challenges(header))


async def test_one_origin_is_one_however_it_is_written() -> None:
    assert origin_of("HTTPS://A.test:443/x") == origin_of("https://a.test/y?z") == "https://a.test"
    assert origin_of("http://[::1]:80") == "http://[::1]"
    assert origin_of("https://a.test:8443") != origin_of("https://a.test")
