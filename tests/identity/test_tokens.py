"""Identity: a token becomes a caller only when everything about it holds."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from arborgate.policies.errors import Unavailable
from arborgate.policies.model import Channel
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.callers import local_caller
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.roles import roles_of
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, LocalCaller
from arborgate.server.identity.tokens import TOKEN_LIMIT, decode
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio

ROLES = {"developer": ("arborgate-developers",), "approver": ("arborgate-approvers", "leads")}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with made.client:
        yield made


def make_identity(issuer: Issuer, *, min_interval: float = 30.0, clock: Callable[[], float] = time.time) -> Identity:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),), jwks_min_interval=min_interval)
    return Identity(settings, ROLES, client=issuer.client, clock=clock)


@pytest.fixture
def identity(issuer: Issuer) -> Identity:
    return make_identity(issuer)


def encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


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


# Form: what two readers could read differently is read by nobody.


def forge(issuer: Issuer, *, header: bytes | None = None, claims: bytes | None = None) -> str:
    """A token over these very bytes, rightly signed."""
    parts = [header or b'{"alg":"ES256","kid":"k1","typ":"at+jwt"}', claims or json.dumps(issuer.claims()).encode()]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = JWSRegistry.algorithms["ES256"].sign(signed, issuer.keys["k1"])
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def refuse(identity: Identity, token: str) -> Flaw:
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    return refused.value.flaw


async def test_a_token_over_bytes_of_a_tests_own_is_good(identity: Identity, issuer: Issuer) -> None:
    assert (await identity.authenticate(forge(issuer), audience=AUDIENCE)).subject == "ada"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES256","kid":"k1","alg":"none"}',
        b'{"alg":"none","kid":"k1","alg":"ES256"}',
        b'{"alg":"ES256","kid":"k1","\\u0061lg":"ES256"}',
        b'\xef\xbb\xbf{"alg":"ES256","kid":"k1"}',
        b'{"alg":"ES256","kid":"k1"} ,',
        b'{"alg":"ES256","kid":"k1",}',
        b'{"alg":"ES256","kid":"k1"}{}',
        b'{"alg":"ES256","kid":"\xff"}',
        b'{"alg":"ES256","kid":"\\ud800"}',
        b"{'alg':'ES256'}",
        b'["alg","ES256"]',
        b'"ES256"',
        b"null",
        b'\x00{"alg":"ES256","kid":"k1"}',
        '{"alg":"ES256","kid":"k1"}'.encode("utf-16"),
    ],
    ids=repr,
)
async def test_a_header_that_can_be_read_two_ways_is_refused(identity: Identity, issuer: Issuer, header: bytes) -> None:
    assert await refuse(identity, forge(issuer, header=header)) is Flaw.FORMAT
    assert issuer.fetches == 0


@pytest.mark.parametrize(
    "twice",
    [
        '"sub":"eve"',
        '"aud":"x"',
        '"exp":99999999999',
        '"s\\u0075b":"eve"',
        '"act":{"sub":"a","sub":"b"}',
        '"x":[{"a":1,"a":1}]',
    ],
)
async def test_claims_that_are_there_twice_are_refused(identity: Identity, issuer: Issuer, twice: str) -> None:
    claims = json.dumps(issuer.claims())
    for text in (f"{{{twice},{claims[1:]}", f"{claims[:-1]},{twice}}}"):
        assert await refuse(identity, forge(issuer, claims=text.encode())) is Flaw.FORMAT


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "01", "+1", ".5", "1_000"])
async def test_numbers_that_are_none_in_json_are_refused(identity: Identity, issuer: Issuer, number: str) -> None:
    claims = f'{json.dumps(issuer.claims())[:-1]},"x":{number}}}'
    assert await refuse(identity, forge(issuer, claims=claims.encode())) is Flaw.FORMAT


@pytest.mark.parametrize("deep", ["[" * 3_000 + "]" * 3_000, '{"a":' * 900 + "1" + "}" * 900, "[" * 40 + "]" * 40])
async def test_claims_nested_deeply_are_refused(identity: Identity, issuer: Issuer, deep: str) -> None:
    claims = f'{json.dumps(issuer.claims())[:-1]},"x":{deep}}}'
    assert await refuse(identity, forge(issuer, claims=claims.encode())) is Flaw.FORMAT


async def test_claims_that_are_many_but_flat_are_no_matter(identity: Identity, issuer: Issuer) -> None:
    token = issuer.token(roles=[{"name": f"role-{number}"} for number in range(100)])
    assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"


def loosen(token: str, index: int) -> list[str]:
    """The same bytes in forms that a lenient decoder takes."""
    parts = token.split(".")

    def put(text: str) -> str:
        return ".".join([*parts[:index], text, *parts[index + 1 :]])

    part = parts[index]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = [f"{part}=", f"{part}==", f"{part}\n", f" {part}", f"{part[:4]}\r\n{part[4:]}", f"{part}A", f"{part}!"]
    if len(part) % 4:
        loose.append(part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1])
    if "-" in part or "_" in part:
        loose.append(part.replace("-", "+").replace("_", "/"))
    return [put(text) for text in loose]


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "claims", "signature"])
async def test_base64_with_loose_ends_is_refused(identity: Identity, issuer: Issuer, part: int) -> None:
    tokens = [issuer.token(jti="?" * number) for number in range(3)]
    await identity.authenticate(tokens[0], audience=AUDIENCE)
    for token in tokens:
        for loose in loosen(token, part):
            assert await refuse(identity, loose) in (Flaw.FORMAT, Flaw.SIGNATURE), loose


def test_every_value_has_one_form_in_base64() -> None:
    for length in range(4):
        for value in range(256):
            raw = bytes([value]) * length
            assert decode(base64.urlsafe_b64encode(raw).rstrip(b"=")) == raw


async def test_an_encrypted_and_a_nested_token_are_refused(identity: Identity, issuer: Issuer) -> None:
    assert await refuse(identity, "a.b.c.d.e") is Flaw.FORMAT
    assert await refuse(identity, issuer.sign(issuer.claims(), header={"cty": "JWT"})) is Flaw.HEADER
    assert await refuse(identity, issuer.sign(issuer.claims(), header={"cty": "anything"})) is Flaw.HEADER


@pytest.mark.parametrize("kid", ["", 7, None, ["k1"], {"k1": 1}, "k1\n", "k\x001", "k\u202e1", "k" * 513], ids=repr)
async def test_a_key_id_that_is_no_name_is_refused_before_anything_is_fetched(
    identity: Identity, issuer: Issuer, kid: object
) -> None:
    header = json.dumps({"alg": "ES256", "kid": kid}).encode()
    assert await refuse(identity, forge(issuer, header=header)) is Flaw.HEADER
    assert issuer.fetches == 0


@pytest.mark.parametrize("kid", ["../../etc/passwd", "/dev/null", "k1'--", "file:///k1", "K1", "k1/", "*", "ｋ1"])
async def test_a_key_id_is_only_ever_compared(identity: Identity, issuer: Issuer, kid: str) -> None:
    assert await refuse(identity, issuer.sign(issuer.claims(), header={"kid": kid})) is Flaw.KEY


async def test_a_token_without_a_key_id_is_good_while_there_is_one_key_alone(issuer: Issuer) -> None:
    token = issuer.sign(issuer.claims(), header={"kid": None})
    assert (await make_identity(issuer).authenticate(token, audience=AUDIENCE)).subject == "ada"
    issuer.keys["k2"] = ECKey.generate_key("P-256", {"kid": "k2"})
    assert await refuse(make_identity(issuer), token) is Flaw.KEY


async def test_an_ecdsa_signature_of_zeros_is_refused(identity: Identity, issuer: Issuer) -> None:
    head, claims, _ = issuer.token().split(".")
    for signature in (bytes(64), bytes(63), bytes(96), b"\x01" * 64):
        encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        assert await refuse(identity, f"{head}.{claims}.{encoded}") is Flaw.SIGNATURE


async def test_an_algorithm_is_accepted_only_where_the_issuers_settings_name_it(issuer: Issuer) -> None:
    issuer.keys = {"k1": RSAKey.generate_key(2048, {"kid": "k1"})}
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, algorithms=("PS256",)),))
    identity = Identity(settings, ROLES, client=issuer.client)
    await identity.authenticate(issuer.sign(issuer.claims(), header={"alg": "PS256"}), audience=AUDIENCE)
    assert await refuse(identity, issuer.sign(issuer.claims(), header={"alg": "RS256"})) is Flaw.ALGORITHM


@pytest.mark.parametrize("algorithm", ["es256", "ES256 ", "ES512", "RS1", "HS256", "none", "", 7, None, ["ES256"]])
async def test_an_algorithm_by_another_spelling_is_refused(
    identity: Identity, issuer: Issuer, algorithm: object
) -> None:
    header = json.dumps({"alg": algorithm, "kid": "k1"}).encode()
    assert await refuse(identity, forge(issuer, header=header)) is Flaw.ALGORITHM


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


async def test_a_refused_token_is_cheap_even_when_it_is_as_large_as_can_be(identity: Identity, issuer: Issuer) -> None:
    await identity.authenticate(issuer.token(), audience=AUDIENCE)

    def pad(claims: str) -> bytes:
        """Claims of about 12,000 bytes, 16,000 in base64."""
        whole = json.dumps(issuer.claims(exp=1))
        return f"{whole[:-1]},{claims}}}".encode()

    large = [
        pad('"x":"' + "x" * 11_600 + '"'),
        pad('"x":[' + ",".join(["[]"] * 3_800) + "]"),
        pad('"x":[' + ",".join(["{}"] * 3_800) + "]"),
        pad('"x":' + "[" * 900 + "]" * 900),
        pad(",".join(f'"{number:05}":0' for number in range(1_160))),
        pad('"act":' + '{"sub":"a","act":' * 600 + "{}" + "}" * 600),
        pad('"x":' + "9" * 4_000),
        pad('"groups":[' + ",".join(f'"{number:07}"' for number in range(1_150)) + "]"),
    ]
    for claims in large:
        token = forge(issuer, claims=claims)
        assert 10_000 < len(token) <= TOKEN_LIMIT or b"999" in claims or b"[[[" in claims
        took = []
        for _ in range(5):
            began = time.perf_counter()
            await refuse(identity, token)
            took.append(time.perf_counter() - began)
        assert min(took) < 0.005, claims[:120]


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


async def test_a_rotated_key_is_found_without_a_restart(issuer: Issuer) -> None:
    identity = make_identity(issuer, min_interval=0.000_001)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.keys = {"k2": RSAKey.generate_key(2048, {"kid": "k2", "use": "sig"})}
    token = issuer.sign(issuer.claims(), header={"alg": "RS256", "kid": "k2"}, key=issuer.keys["k2"])
    assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"


async def test_who_comes_while_the_keys_are_fetched_waits_for_them(identity: Identity, issuer: Issuer) -> None:
    issuer.answering.clear()
    first = asyncio.create_task(identity.authenticate(issuer.token(), audience=AUDIENCE))
    async with asyncio.timeout(5):
        while not issuer.fetches:
            await asyncio.sleep(0)
        second = asyncio.create_task(identity.authenticate(issuer.token(sub="ben"), audience=AUDIENCE))
        await asyncio.sleep(0)
        issuer.answering.set()
        assert [(await task).subject for task in (first, second)] == ["ada", "ben"]
    assert issuer.fetches == 1


async def test_known_keys_work_while_the_issuer_is_away(issuer: Issuer) -> None:
    settings = IdentitySettings(
        issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=0.000_001, jwks_min_interval=0.000_001
    )
    identity = Identity(settings, ROLES, client=issuer.client)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.away = True
    assert (await identity.authenticate(issuer.token(jti="another"), audience=AUDIENCE)).subject == "ada"


async def test_a_slow_issuer_keeps_nobody_waiting_whose_key_is_known(issuer: Issuer) -> None:
    short = 0.000_001
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=short, jwks_min_interval=short)
    identity = Identity(settings, ROLES, client=issuer.client)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.answering.clear()
    async with asyncio.timeout(10):
        assert (await identity.authenticate(issuer.token(jti="another"), audience=AUDIENCE)).subject == "ada"
    issuer.answering.set()
    assert (await identity.authenticate(issuer.token(jti="a third"), audience=AUDIENCE)).subject == "ada"


async def test_a_symmetric_key_in_the_key_set_is_never_used(issuer: Issuer) -> None:
    issuer.keys["k0"] = OctKey.generate_key(256, {"kid": "k0"})
    identity = make_identity(issuer)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(issuer.sign(issuer.claims(), header={"kid": "k0"}), audience=AUDIENCE)


@pytest.mark.parametrize(
    "stranger",
    [
        "text",
        None,
        7,
        {},
        {"kid": "z"},
        {"kty": "AKP", "kid": "z"},
        {"kty": "RSA", "kid": "z", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "kid": "z", "crv": "P-0", "x": "a", "y": "b"},
    ],
    ids=str,
)
async def test_a_key_that_is_none_does_not_take_the_others_along(issuer: Issuer, stranger: object) -> None:
    issuer.strangers = [stranger]
    assert (await make_identity(issuer).authenticate(issuer.token(), audience=AUDIENCE)).subject == "ada"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        "text",
        {"issuer": ISSUER},
        {"issuer": "https://another.test", "jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER, "jwks_uri": "http://[bad"},
        {"issuer": ISSUER, "jwks_uri": "http://issuer.test/jwks"},
    ],
    ids=["list", "text", "no-keys", "another-issuer", "no-url", "no-tls"],
)
async def test_metadata_that_is_none_or_leads_astray_brings_no_keys(issuer: Issuer, metadata: object) -> None:
    issuer.metadata = metadata
    with pytest.raises(Unavailable):
        await make_identity(issuer).authenticate(issuer.token(), audience=AUDIENCE)


async def test_a_token_seen_before_is_refused_once_its_key_is_withdrawn(issuer: Issuer) -> None:
    settings = IdentitySettings(
        issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=0.000_001, jwks_min_interval=0.000_001
    )
    identity = Identity(settings, ROLES, client=issuer.client)
    token = issuer.token()
    await identity.authenticate(token, audience=AUDIENCE)
    issuer.keys = {"k2": ECKey.generate_key("P-256", {"kid": "k2"})}
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.KEY


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
