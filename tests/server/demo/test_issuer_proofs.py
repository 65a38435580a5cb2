"""Tokens of the sandbox issuer that are bound to a key: who shows a proof gets them, and nobody else can use them."""

import time
from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from tests.server.demo.test_issuer import MCP, Provider, provider

__all__ = ["provider"]  # a fixture, taken by name

pytestmark = pytest.mark.anyio


def prove(provider: Provider, key: ECKey, **changes: Any) -> dict[str, str]:
    claims = {
        "htm": "POST",
        "htu": f"{provider.url}/token",
        "iat": int(time.time()),
        "jti": str(time.perf_counter_ns()),
    }
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    return {"DPoP": jws.serialize_compact(header, orjson.dumps({**claims, **changes}), key, algorithms=["ES256"])}


def read_claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = orjson.loads(jws.extract_compact(token.encode()).payload)
    return claims


async def get_tokens(provider: Provider, agent: str, proof: dict[str, str]) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "client_id": agent,
        "code": await provider.log_in(agent),
        "redirect_uri": "http://127.0.0.1:33418/callback",
        "code_verifier": provider.verifier,
    }
    answer = await provider.client.post("/token", data=form, headers=proof)
    tokens: dict[str, Any] = {**answer.json(), "status": answer.status_code}
    return tokens


async def test_a_proof_binds_the_tokens_to_its_key(provider: Provider) -> None:
    agent, key = (await provider.register())["client_id"], ECKey.generate_key("P-256")
    tokens = await get_tokens(provider, agent, prove(provider, key))
    claims = read_claims(tokens["access_token"])
    assert (tokens["token_type"], claims["cnf"], claims["aud"]) == ("DPoP", {"jkt": key.thumbprint()}, MCP)


async def test_without_a_proof_the_tokens_are_bearer_tokens(provider: Provider) -> None:
    agent = (await provider.register())["client_id"]
    tokens = await get_tokens(provider, agent, {})
    assert (tokens["token_type"], "cnf" in read_claims(tokens["access_token"])) == ("Bearer", False)


async def test_a_bound_refresh_token_needs_a_proof_by_the_same_key(provider: Provider) -> None:
    agent, key = (await provider.register())["client_id"], ECKey.generate_key("P-256")
    tokens = await get_tokens(provider, agent, prove(provider, key))
    form = {"grant_type": "refresh_token", "client_id": agent, "refresh_token": tokens["refresh_token"]}
    for proof in ({}, prove(provider, ECKey.generate_key("P-256"))):
        assert (await provider.client.post("/token", data=form, headers=proof)).json()["error"] == "invalid_grant"
    again = (await provider.client.post("/token", data=form, headers=prove(provider, key))).json()
    assert read_claims(again["access_token"])["cnf"] == {"jkt": key.thumbprint()}


async def test_a_bad_or_a_used_proof_gets_no_tokens(provider: Provider) -> None:
    agent, key = (await provider.register())["client_id"], ECKey.generate_key("P-256")
    used = prove(provider, key)
    assert (await get_tokens(provider, agent, used))["status"] == 200
    for proof in (used, prove(provider, key, htm="GET"), prove(provider, key, iat=1)):
        refused = await get_tokens(provider, agent, proof)
        assert (refused["status"], refused["error"]) == (400, "invalid_dpop_proof")
