"""Identity: a token becomes a caller only when everything about it holds."""

import base64
import hmac
import json
import time

import pytest
from joserfc.jwk import ECKey

from arborgate.policies.model import Channel
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.callers import local_caller
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.roles import roles_of
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, LocalCaller
from tests.identity.forging import ROLES, encode, forge, make_identity, refuse
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio


async def test_a_good_token_names_person_agent_groups_and_roles(identity: Identity, issuer: Issuer) -> None:
    token = issuer.token(act={"sub": "chat-bot", "act": {"client_id": "ops-desk"}}, auth_time=1_700_000_000)
    caller = await identity.authenticate(token, audience=AUDIENCE)
    assert (caller.key, caller.name, caller.agent) == (f"{ISSUER}#ada", "Ada", "ide-copilot")
    assert caller.groups == {"arborgate-developers"}
    assert caller.roles == {"developer"}
    assert caller.actors == ("chat-bot", "ops-desk")
    assert (caller.channel, caller.authenticated_at) == (Channel.MCP, 1_700_000_000)


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"exp": int(time.time()) - 600}, Flaw.EXPIRED),
        ({"exp": None}, Flaw.CLAIMS),
        ({"exp": "9999999999"}, Flaw.CLAIMS),
        ({"exp": True}, Flaw.CLAIMS),
        ({"nbf": int(time.time()) + 600}, Flaw.NOT_YET),
        ({"iat": int(time.time()) + 600}, Flaw.NOT_YET),
        ({"aud": "https://another.test"}, Flaw.AUDIENCE),
        ({"aud": ["https://another.test"]}, Flaw.AUDIENCE),
        ({"aud": None}, Flaw.AUDIENCE),
        ({"aud": f"{AUDIENCE}/"}, Flaw.AUDIENCE),
        ({"iss": "https://issuer.test.evil"}, Flaw.ISSUER),
        ({"iss": f"{ISSUER}/"}, Flaw.ISSUER),
        ({"iss": None}, Flaw.ISSUER),
        ({"iss": [ISSUER]}, Flaw.ISSUER),
        ({"sub": None}, Flaw.CLAIMS),
        ({"sub": ""}, Flaw.CLAIMS),
        ({"sub": ["ada"]}, Flaw.CLAIMS),
        ({"jti": 7}, Flaw.CLAIMS),
        ({"jti": {"a": 1}}, Flaw.CLAIMS),
        ({"jti": "t\n1"}, Flaw.CLAIMS),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    identity: Identity, issuer: Issuer, changes: dict[str, object], flaw: Flaw
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(issuer.token(**changes), audience=AUDIENCE)
    assert refused.value.flaw is flaw


@pytest.mark.parametrize(
    ("header", "flaw"),
    [
        ({"jwk": {"kty": "EC"}}, Flaw.HEADER),
        ({"jku": "https://evil.test/jwks"}, Flaw.HEADER),
        ({"x5u": "https://evil.test/cert"}, Flaw.HEADER),
        ({"crit": ["exp"]}, Flaw.HEADER),
        ({"typ": "logout+jwt"}, Flaw.HEADER),
        ({"kid": "unknown"}, Flaw.KEY),
        ({"kid": "../../etc/passwd"}, Flaw.KEY),
    ],
)
async def test_a_token_with_a_wrong_header_is_refused(
    identity: Identity, issuer: Issuer, header: dict[str, object], flaw: Flaw
) -> None:
    good = issuer.token().split(".")
    head = {"alg": "ES256", "kid": "k1", "typ": "at+jwt", **header}
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(".".join([encode(head), *good[1:]]), audience=AUDIENCE)
    assert refused.value.flaw is flaw


# Issuer and audience.


@pytest.mark.parametrize(
    "lookalike",
    [
        f"{ISSUER}/",
        f"{ISSUER}:443",
        f"{ISSUER}#",
        f"{ISSUER}?",
        f"{ISSUER}.",
        f" {ISSUER}",
        f"{ISSUER}\n",
        ISSUER.upper(),
        ISSUER.replace("https", "HTTPS"),
        ISSUER.replace("https", "http"),
        ISSUER.replace("issuer", "Issuer"),
        ISSUER.replace("i", "\u0456", 1),
        ISSUER.replace("issuer", "\uff49ssuer"),
        ISSUER.replace("//", "//x@"),
        ISSUER.replace("//", "//evil.test\\@"),
        ISSUER.replace(".test", ".test.evil.test"),
        ISSUER.replace(".test", "%2etest"),
        f"{ISSUER}/../",
        "",
        True,
        {"iss": ISSUER},
    ],
    ids=repr,
)
async def test_an_issuer_is_compared_exactly(identity: Identity, issuer: Issuer, lookalike: object) -> None:
    assert await refuse(identity, issuer.token(iss=lookalike)) is Flaw.ISSUER
    assert issuer.fetches == 0


@pytest.mark.parametrize(
    ("audience", "accepted"),
    [
        (AUDIENCE, True),
        ([AUDIENCE], True),
        (["https://other.test", AUDIENCE], True),
        ([AUDIENCE, 7], False),
        ([AUDIENCE, None], False),
        ([[AUDIENCE]], False),
        ({"0": AUDIENCE}, False),
        ([], False),
        ("", False),
        (AUDIENCE[:-1], False),
        (f"{AUDIENCE} https://other.test", False),
        (AUDIENCE.upper(), False),
        ("*", False),
    ],
    ids=repr,
)
async def test_an_audience_list_is_good_when_ours_is_in_it(
    identity: Identity, issuer: Issuer, audience: object, accepted: bool
) -> None:
    token = issuer.token(aud=audience)
    if accepted:
        assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
    else:
        assert await refuse(identity, token) is Flaw.AUDIENCE


# Times.

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({}, None),
        ({"exp": NOW + 300.5}, None),
        ({"iat": None}, None),
        ({"iat": NOW + 29, "nbf": NOW + 29}, None),
        ({"exp": NOW - 29, "iat": NOW - 300}, None),
        ({"exp": NOW + 86_400}, None),
        ({"exp": NOW - 30}, Flaw.EXPIRED),
        ({"exp": 0}, Flaw.EXPIRED),
        ({"exp": -1}, Flaw.CLAIMS),
        ({"exp": "1.8e9"}, Flaw.CLAIMS),
        ({"exp": [NOW + 300]}, Flaw.CLAIMS),
        ({"exp": False}, Flaw.CLAIMS),
        ({"exp": 10**30}, Flaw.LIFETIME),
        ({"exp": 1e308}, Flaw.LIFETIME),
        ({"exp": NOW + 86_500}, Flaw.LIFETIME),
        ({"exp": NOW + 86_500, "iat": None}, Flaw.LIFETIME),
        ({"exp": NOW + 86_500, "iat": 0}, Flaw.LIFETIME),
        ({"iat": 0}, Flaw.LIFETIME),
        ({"iat": -5}, Flaw.CLAIMS),
        ({"iat": "now"}, Flaw.CLAIMS),
        ({"iat": True}, Flaw.CLAIMS),
        ({"iat": NOW + 31}, Flaw.NOT_YET),
        ({"nbf": NOW + 31}, Flaw.NOT_YET),
        ({"nbf": 1e300}, Flaw.NOT_YET),
        ({"nbf": "0"}, Flaw.CLAIMS),
        ({"exp": NOW + 5, "iat": NOW + 6}, Flaw.CLAIMS),
        ({"exp": NOW + 5, "nbf": NOW + 6}, Flaw.CLAIMS),
        ({"auth_time": NOW + 29}, None),
        ({"auth_time": NOW + 31}, Flaw.CLAIMS),
        ({"auth_time": 1e300}, Flaw.CLAIMS),
    ],
    ids=str,
)
async def test_a_token_is_good_from_its_start_to_its_end(
    issuer: Issuer, changes: dict[str, object], flaw: Flaw | None
) -> None:
    identity = make_identity(issuer, clock=lambda: NOW)
    claims = issuer.claims(**{"iat": NOW, "exp": NOW + 300, **changes})
    token = forge(issuer, claims=json.dumps(claims).encode())
    if flaw is None:
        assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
    else:
        assert await refuse(identity, token) is flaw


# Kinds of tokens.

WHOLE = {"jti": "t-1"}


@pytest.mark.parametrize(
    ("tokens", "typ", "changes", "flaw"),
    [
        ("access", "at+jwt", {}, None),
        ("access", "application/at+jwt", {}, None),
        ("access", "AT+JWT", {}, None),
        ("access", "JWT", {}, None),
        ("access", None, {}, None),
        ("access", None, {"typ": "Bearer"}, None),
        ("access", None, {"typ": "DPoP"}, None),
        ("access", None, {"token_use": "access"}, None),
        ("access", "id_token", {}, Flaw.HEADER),
        ("access", "logout+jwt", {}, Flaw.HEADER),
        ("access", "dpop+jwt", {}, Flaw.HEADER),
        ("access", "secevent+jwt", {}, Flaw.HEADER),
        ("access", "token-introspection+jwt", {}, Flaw.HEADER),
        ("access", ["JWT"], {}, Flaw.HEADER),
        ("access", "", {}, Flaw.HEADER),
        ("access", "JWT", {"nonce": "n"}, Flaw.CLAIMS),
        ("access", "JWT", {"at_hash": "h"}, Flaw.CLAIMS),
        ("access", "at+jwt", {"c_hash": "h"}, Flaw.CLAIMS),
        ("access", "JWT", {"typ": "ID"}, Flaw.CLAIMS),
        ("access", "JWT", {"typ": "Refresh"}, Flaw.CLAIMS),
        ("access", "JWT", {"typ": "Offline"}, Flaw.CLAIMS),
        ("access", "JWT", {"typ": "Logout"}, Flaw.CLAIMS),
        ("access", "JWT", {"token_use": "id"}, Flaw.CLAIMS),
        ("access", "JWT", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, Flaw.CLAIMS),
        ("access", "JWT", {"events": {}}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", WHOLE, None),
        ("at+jwt", "application/at+jwt", WHOLE, None),
        ("at+jwt", "JWT", WHOLE, Flaw.HEADER),
        ("at+jwt", None, WHOLE, Flaw.HEADER),
        ("at+jwt", "at+jwt", {}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {"jti": ""}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {"jti": 7}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {**WHOLE, "client_id": None, "azp": "ide"}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {**WHOLE, "client_id": ["ide"]}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {**WHOLE, "iat": None}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {**WHOLE, "sub": None}, Flaw.CLAIMS),
        ("at+jwt", "at+jwt", {**WHOLE, "nonce": "n"}, Flaw.CLAIMS),
        ("id", "JWT", {"nonce": "n", "at_hash": "h"}, None),
        ("id", None, {"typ": "ID"}, None),
        ("id", None, {"token_use": "id"}, None),
        ("id", "at+jwt", {}, Flaw.HEADER),
        ("id", "logout+jwt", {}, Flaw.HEADER),
        ("id", "JWT", {"typ": "Bearer"}, Flaw.CLAIMS),
        ("id", "JWT", {"token_use": "access"}, Flaw.CLAIMS),
        ("id", "JWT", {"events": {}}, Flaw.CLAIMS),
        ("id", "JWT", {"iat": None}, Flaw.CLAIMS),
        ("id", "JWT", {"aud": [AUDIENCE], "azp": "another"}, None),
        ("id", "JWT", {"aud": [AUDIENCE, "another"], "azp": AUDIENCE}, None),
        ("id", "JWT", {"aud": [AUDIENCE, "another"], "azp": "another"}, Flaw.AUDIENCE),
        ("id", "JWT", {"aud": [AUDIENCE, "another"]}, Flaw.AUDIENCE),
    ],
    ids=str,
)
async def test_no_kind_of_token_passes_for_another(
    issuer: Issuer, tokens: str, typ: object, changes: dict[str, object], flaw: Flaw | None
) -> None:
    settings = IssuerSettings.model_validate({"issuer": ISSUER, "tokens": tokens})
    identity = Identity(IdentitySettings(issuers=(settings,)), ROLES, client=issuer.client)
    header = {name: value for name, value in {"alg": "ES256", "kid": "k1", "typ": typ}.items() if value is not None}
    token = forge(issuer, header=json.dumps(header).encode(), claims=json.dumps(issuer.claims(**changes)).encode())
    if flaw is None:
        assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
    else:
        assert await refuse(identity, token) is flaw


async def test_an_unsigned_token_is_refused(identity: Identity, issuer: Issuer) -> None:
    body = encode(issuer.claims())
    for head in ({"alg": "none"}, {"alg": "None", "typ": "at+jwt"}):
        for token in (f"{encode(head)}.{body}.", f"{encode(head)}.{body}.AAAA"):
            with pytest.raises(Unauthenticated) as refused:
                await identity.authenticate(token, audience=AUDIENCE)
            assert refused.value.flaw in (Flaw.FORMAT, Flaw.ALGORITHM)


async def test_an_hmac_with_the_public_key_as_its_secret_is_refused(identity: Identity, issuer: Issuer) -> None:
    key = issuer.keys["k1"]
    assert isinstance(key, ECKey)
    public = key.as_pem(private=False)
    signed = f"{encode({'alg': 'HS256', 'kid': 'k1', 'typ': 'at+jwt'})}.{encode(issuer.claims())}"
    tag = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).rstrip(b"=").decode()
    token = f"{signed}.{tag}"
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.ALGORITHM


async def test_a_token_signed_by_another_key_is_refused(identity: Identity, issuer: Issuer) -> None:
    token = issuer.sign(issuer.claims(), key=ECKey.generate_key("P-256", {"kid": "k1"}))
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.SIGNATURE


async def test_a_token_whose_claims_were_swapped_is_refused(identity: Identity, issuer: Issuer) -> None:
    head, _, signature = issuer.token().split(".")
    forged = f"{head}.{encode(issuer.claims(groups=['arborgate-approvers']))}.{signature}"
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(forged, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.SIGNATURE


@pytest.mark.parametrize(
    "token", ["x", "a.b", "a.b.c", "....", "a" * 20_000, f"{encode([])}.{encode([])}.AAAA", "é.é.é"]
)
async def test_what_is_no_token_is_refused_before_anything_is_fetched(
    identity: Identity, issuer: Issuer, token: str
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.FORMAT
    assert issuer.fetches == 0


async def test_a_token_for_the_approvals_does_not_open_mcp_nor_the_other_way_round(
    identity: Identity, issuer: Issuer
) -> None:
    approvals = AUDIENCE.replace("/mcp", "/approvals")
    with pytest.raises(Unauthenticated):
        await identity.authenticate(issuer.token(aud=approvals), audience=AUDIENCE)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(issuer.token(), audience=approvals, channel=Channel.TERMINAL)


async def test_an_issuers_own_audience_never_opens_the_approvals(issuer: Issuer) -> None:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, audience="api://arborgate"),))
    identity = Identity(settings, ROLES, client=issuer.client)
    token = issuer.token(aud="api://arborgate")
    assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
    with pytest.raises(Unauthenticated):
        await identity.authenticate(token, audience="http://x/approvals", channel=Channel.TERMINAL)


async def test_a_token_seen_before_still_expires(issuer: Issuer) -> None:
    now = time.time()
    identity = make_identity(issuer, clock=lambda: now)
    token = issuer.token()
    await identity.authenticate(token, audience=AUDIENCE)
    now += 400
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.EXPIRED


async def test_groups_of_a_nested_claim_are_found(issuer: Issuer) -> None:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, groups_claim="realm_access.roles"),))
    identity = Identity(settings, ROLES, client=issuer.client)
    token = issuer.token(realm_access={"roles": ["leads", 7]})
    assert (await identity.authenticate(token, audience=AUDIENCE)).roles == {"approver"}


def test_roles_come_from_groups_alone() -> None:
    assert roles_of(["leads"], ROLES) == {"approver"}
    assert roles_of(["approver"], ROLES) == frozenset()


def test_a_local_caller_is_never_anonymous() -> None:
    caller = local_caller("me", LocalCaller(subject="ada", groups=("arborgate-developers",)), ROLES)
    assert (caller.key, caller.roles, caller.channel) == ("local#ada", frozenset({"developer"}), Channel.STDIO)
