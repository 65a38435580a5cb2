"""The real provider does what the other tests of identity take it to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from tests.parts.oidc import (
    AGENT,
    ASSISTANT,
    ONE_FACTOR,
    REDIRECT_URI,
    SERVICE,
    TWO_FACTORS,
    OidcProvider,
    describe_pages,
    make_proof,
)
from tests.parts.process import PartFailed

CHALLENGE = {
    "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    "code_challenge_method": "S256",
}
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # of RFC 7636, appendix B
BACK = "http://127.0.0.1:1/callback"


def read(provider: OidcProvider, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(httpx2.get(provider.jwks_url, trust_env=False).json())
    return jwt.decode(token, keys, algorithms=["RS256", "ES256"]).claims


def visit(browser: httpx2.Client, form: dict[str, str], **asked: Any) -> httpx2.URL:
    """Where a browser is sent back to; it fills in the login page when it is shown one."""
    query = {"response_type": "code", "scope": "openid", "redirect_uri": BACK, **CHALLENGE, **asked}
    step = browser.get("/auth", params=query)
    while not (to := step.headers["location"]).startswith(query["redirect_uri"]):
        step = browser.post(to, data=form) if "/interaction/" in to else browser.get(to)
    return httpx2.URL(to)


@pytest.mark.parametrize("nonces", [False, True], ids=["without nonces", "with nonces"])
def test_tokens_are_bound_to_the_key_of_the_proof_and_stay_bound_when_refreshed(tmp_path: Path, nonces: bool) -> None:
    key = ECKey.generate_key("P-256")
    with OidcProvider(tmp_path, require_nonce=nonces) as provider:
        tokens = provider.log_in("dev", key=key)
        again = provider.refresh(tokens["refresh_token"], key=key)
        bound = {"jkt": key.thumbprint()}
        assert [tokens["token_type"], again["token_type"]] == ["DPoP", "DPoP"]
        assert read(provider, tokens["access_token"])["cnf"] == bound
        assert read(provider, again["access_token"])["cnf"] == bound
        with pytest.raises(PartFailed, match="invalid_grant"):
            provider.refresh(again["refresh_token"], key=ECKey.generate_key("P-256"))
        assert read(provider, provider.log_in_service(key=key)["access_token"])["cnf"] == bound


def test_a_required_nonce_is_asked_for_and_given(tmp_path: Path) -> None:
    with OidcProvider(tmp_path, require_nonce=True) as provider:
        url = f"{provider.issuer}/token"
        proof = make_proof(ECKey.generate_key("P-256"), "POST", url)
        form = {"grant_type": "client_credentials"}
        answer = httpx2.post(url, data=form, headers={"DPoP": proof}, auth=(SERVICE, provider.service_secret))
        assert (answer.status_code, answer.json()["error"]) == (400, "use_dpop_nonce")
        assert answer.headers["DPoP-Nonce"]


def test_an_opaque_token_is_known_to_the_provider_until_it_is_revoked(oidc_provider: OidcProvider) -> None:
    resource = "http://127.0.0.1:8080/opaque"
    oidc_provider.issue_opaque(resource)
    token = oidc_provider.log_in("dev", resource=resource)["access_token"]
    assert token.count(".") == 0
    known = oidc_provider.introspect(token)
    expected = {
        "active": True,
        "iss": oidc_provider.issuer,
        "sub": "dev",
        "aud": resource,
        "client_id": AGENT,
        "groups": ["arborgate-developers"],
    }
    assert {claim: known[claim] for claim in expected} == expected
    oidc_provider.revoke(token)
    assert oidc_provider.introspect(token) == {"active": False}


def test_only_who_may_ask_is_told_about_a_token(oidc_provider: OidcProvider) -> None:
    resource = "http://127.0.0.1:8080/opaque"
    oidc_provider.issue_opaque(resource)
    token = oidc_provider.log_in("dev", resource=resource)["access_token"]
    credentials = (SERVICE, oidc_provider.service_secret)
    answer = httpx2.post(f"{oidc_provider.issuer}/token/introspection", data={"token": token}, auth=credentials)
    assert answer.json() == {"active": False}


def test_a_refresh_token_is_good_for_once(oidc_provider: OidcProvider) -> None:
    first = oidc_provider.log_in("dev")["refresh_token"]
    oidc_provider.refresh(first)
    with pytest.raises(PartFailed, match="invalid_grant"):
        oidc_provider.refresh(first)


def test_anybody_may_register_a_client_with_loopback_redirects(oidc_provider: OidcProvider) -> None:
    metadata = httpx2.get(oidc_provider.metadata_url).json()
    asked = {
        "client_name": "a copilot",
        "application_type": "native",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    answer = httpx2.post(metadata["registration_endpoint"], json=asked)
    assert answer.status_code == 201
    registered = answer.json()["client_id"]
    elsewhere = "http://127.0.0.1:41234/callback"
    token = oidc_provider.log_in("dev", client_id=registered, redirect_uri=elsewhere)["access_token"]
    assert read(oidc_provider, token)["client_id"] == registered


def test_a_client_may_be_a_document_at_its_url(oidc_provider: OidcProvider) -> None:
    assert httpx2.get(oidc_provider.metadata_url).json()["client_id_metadata_document_supported"] is True
    url = "https://copilot.example.test/client.json"
    document = {
        "client_name": "a copilot",
        "application_type": "native",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    oidc_provider.add_document(url, document)
    token = oidc_provider.log_in("dev", client_id=url)["access_token"]
    assert read(oidc_provider, token)["client_id"] == url


def test_tokens_say_how_and_when_somebody_logged_in(oidc_provider: OidcProvider) -> None:
    weak = oidc_provider.log_in("april")
    strong = oidc_provider.log_in("april", second_factor=True)
    refreshed = oidc_provider.refresh(strong["refresh_token"])
    said = [[read(oidc_provider, one[kind]) for kind in ("access_token", "id_token")] for one in (weak, strong)]
    assert [[claims["acr"] for claims in kinds] for kinds in said] == [[ONE_FACTOR] * 2, [TWO_FACTORS] * 2]
    assert all(claims["iat"] - claims["auth_time"] < 60 for kinds in said for claims in kinds)
    again = read(oidc_provider, refreshed["access_token"])
    assert (again["acr"], again["auth_time"]) == (TWO_FACTORS, said[1][0]["auth_time"])


@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"max_age": "0"}, {"acr_values": TWO_FACTORS}], ids=str)
def test_a_session_is_asked_for_another_login_when_the_client_wants_one(
    oidc_provider: OidcProvider, asked: dict[str, str]
) -> None:
    oidc_provider.add_client(describe_pages("pages", "not-a-secret", BACK))
    with httpx2.Client(base_url=oidc_provider.issuer, trust_env=False) as browser:
        visit(browser, {"login": "april"}, client_id="pages")
        silent = browser.get(
            "/auth",
            params={
                "client_id": "pages",
                "response_type": "code",
                "scope": "openid",
                "redirect_uri": BACK,
                **CHALLENGE,
                **asked,
            },
        )
        assert "/interaction/" in silent.headers["location"]
        page = browser.get(silent.headers["location"]).text
        assert (" checked>" in page) == ("acr_values" in asked)
        back = visit(browser, {"login": "april"}, client_id="pages", **asked)
        assert "code" in back.params


@contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """A place that is told of logouts, and what it was told."""
    told: list[dict[str, list[str]]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/logout", told
        server.shutdown()
        thread.join()


def test_a_logout_at_the_provider_is_told_to_the_client_by_the_back_channel(oidc_provider: OidcProvider) -> None:
    with listening() as (url, told), httpx2.Client(base_url=oidc_provider.issuer, trust_env=False) as browser:
        oidc_provider.add_client(describe_pages("pages", "not-a-secret", BACK, logout_uri=url))
        back = visit(browser, {"login": "april"}, client_id="pages")
        exchange = {
            "grant_type": "authorization_code",
            "code": back.params["code"],
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
        }
        token = httpx2.post(f"{oidc_provider.issuer}/token", data=exchange, auth=("pages", "not-a-secret")).json()
        session = read(oidc_provider, token["id_token"])["sid"]
        oidc_provider.log_out(browser.cookies)
    ((logout_token,),) = (one["logout_token"] for one in told)
    claims = read(oidc_provider, logout_token)
    assert (claims["sub"], claims["sid"], claims["aud"]) == ("april", session, "pages")
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}


def test_a_client_may_send_people_to_log_out_and_have_them_back(oidc_provider: OidcProvider) -> None:
    oidc_provider.add_client(describe_pages("pages", "not-a-secret", BACK))
    metadata = httpx2.get(oidc_provider.metadata_url).json()
    with httpx2.Client(base_url=oidc_provider.issuer, trust_env=False) as browser:
        visit(browser, {"login": "april"}, client_id="pages")
        home = f"{urlsplit(BACK).scheme}://{urlsplit(BACK).netloc}/"
        page = browser.get(
            metadata["end_session_endpoint"], params={"client_id": "pages", "post_logout_redirect_uri": home}
        )
        xsrf = page.text.split('name="xsrf" value="')[1].split('"')[0]
        assert browser.post("/session/end/confirm", data={"xsrf": xsrf, "logout": "yes"}).headers["location"] == home


def test_an_assistant_gets_a_token_that_names_the_person_and_itself(oidc_provider: OidcProvider) -> None:
    secret = oidc_provider.assistant_secret
    login = oidc_provider.log_in("dev", client_id=ASSISTANT, client_secret=secret, second_factor=True)
    claims = read(oidc_provider, oidc_provider.exchange(login["id_token"])["access_token"])
    expected = {
        "sub": "dev",
        "client_id": ASSISTANT,
        "act": {"sub": ASSISTANT},
        "acr": TWO_FACTORS,
        "aud": oidc_provider.audience,
    }
    assert {claim: claims[claim] for claim in expected} == expected


def test_an_assistant_gets_nothing_for_an_id_token_of_another_client(oidc_provider: OidcProvider) -> None:
    with pytest.raises(PartFailed, match="invalid_grant"):
        oidc_provider.exchange(oidc_provider.log_in("dev")["id_token"])
