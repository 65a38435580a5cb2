"""The form of tokens: what two readers could read differently is read by nobody, and costs next to nothing."""

import base64
import json

import pytest
from joserfc.jwk import ECKey, RSAKey

from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.identity.tokens import decode
from tests.identity.forging import ROLES, forge, make_identity, refuse
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio


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
    tokens = [issuer.token(jti="?" * number) for number in (1, 2, 3)]
    await identity.authenticate(tokens[0], audience=AUDIENCE)
    for token in tokens:
        for loose in loosen(token, part):
            assert await refuse(identity, loose) in (Flaw.FORMAT, Flaw.SIGNATURE), loose


def test_every_value_has_one_form_in_base64() -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for length in (1, 2, 3):
        for value in range(256):
            raw = bytes([value]) * length
            one = base64.urlsafe_b64encode(raw).rstrip(b"=")
            assert decode(one) == raw
            for last in alphabet:
                other = one[:-1] + bytes([last])
                try:
                    assert decode(other) != raw or other == one
                except Unauthenticated:
                    assert other != one


async def test_an_encrypted_and_a_nested_token_are_refused(identity: Identity, issuer: Issuer) -> None:
    parts = issuer.token().split(".")
    for form in ("a.b.c.d.e", f"{'.'.join(parts)}.AAAA.AAAA", ".".join(parts[:2]), f"{parts[0]}.{parts[1]}."):
        assert await refuse(identity, form) is Flaw.FORMAT
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
