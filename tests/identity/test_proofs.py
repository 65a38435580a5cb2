"""Proofs of possession: a proof counts for the one request, key and token that it was made for, and about now."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import AHEAD_SECONDS, PROOF_LIMIT, Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import DpopSettings
from arborgate.server.identity.tokens import decode
from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisServer, run_command

from .proving import NOW, URL, Clock, Prover, encode, present
from .spellings import DIFFERENT, SAME

pytestmark = pytest.mark.anyio

TOKEN = "header.claims.signature"
EVERY = DpopSettings(algorithms=("ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"))
HOLDER = Prover()
RSA = RSAKey.generate_key(2048)


def build_proofs(state: State, clock: Clock, settings: DpopSettings = EVERY) -> Proofs:
    return Proofs(settings, Replays(state, settings, clock=clock), Nonces(state, settings, clock=clock), clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    async with connect(redis_url) as redis:
        yield State(redis, "arborgate:")


@pytest.fixture
def proofs(state: State, clock: Clock) -> Proofs:
    return build_proofs(state, clock)


async def flaw_of(proofs: Proofs, proof: str, *, holder: Prover = HOLDER, token: str = TOKEN, **target: str) -> Flaw:
    """Why a proof is refused."""
    with pytest.raises(Unauthenticated) as caught:
        await proofs.check(present(proof, **target), token, bound_to=holder.thumbprint, nonce=False)
    return caught.value.flaw


@pytest.mark.parametrize(
    "holder",
    [
        Prover(),
        Prover(ECKey.generate_key("P-384"), "ES384"),
        Prover(OKPKey.generate_key("Ed25519"), "EdDSA"),
        Prover(OKPKey.generate_key("Ed25519"), "Ed25519"),
        Prover(RSA, "PS256"),
        Prover(RSA, "RS256"),
    ],
    ids=["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"],
)
async def test_a_good_proof_of_each_algorithm_names_its_key(proofs: Proofs, holder: Prover) -> None:
    for _ in range(2):  # the second finds its key known
        proof = present(holder.prove(TOKEN))
        found = await proofs.check(proof, TOKEN, bound_to=holder.thumbprint, nonce=False)
        assert found == holder.thumbprint
    assert await proofs.check(present(holder.prove(TOKEN)), TOKEN, bound_to=None, nonce=False) == holder.thumbprint


async def test_without_a_token_yet_no_hash_of_one_is_needed(proofs: Proofs) -> None:
    assert await proofs.check(present(HOLDER.prove()), "", bound_to=None, nonce=False) == HOLDER.thumbprint


async def test_only_the_algorithms_of_the_settings_are_accepted(state: State, clock: Clock) -> None:
    proofs = build_proofs(state, clock, DpopSettings(algorithms=("Ed25519",)))
    assert await flaw_of(proofs, HOLDER.prove(TOKEN)) is Flaw.PROOF_ALGORITHM


@pytest.mark.parametrize(
    ("header", "flaw"),
    [
        ({"typ": None}, Flaw.PROOF_FORMAT),
        ({"typ": "jwt"}, Flaw.PROOF_FORMAT),
        ({"typ": "DPoP+JWT"}, Flaw.PROOF_FORMAT),
        ({"typ": "application/dpop+jwt"}, Flaw.PROOF_FORMAT),
        ({"typ": ["dpop+jwt"]}, Flaw.PROOF_FORMAT),
        ({"crit": ["exp"], "exp": 1}, Flaw.PROOF_FORMAT),
        ({"crit": []}, Flaw.PROOF_FORMAT),
        ({"b64": True}, Flaw.PROOF_FORMAT),
        ({"jku": "https://evil.test/jwks"}, Flaw.PROOF_FORMAT),
        ({"x5u": "https://evil.test/key"}, Flaw.PROOF_FORMAT),
        ({"x5c": ["MA=="]}, Flaw.PROOF_FORMAT),
        ({"x5t": "AA"}, Flaw.PROOF_FORMAT),
        ({"x5t#S256": "AA"}, Flaw.PROOF_FORMAT),
        ({"alg": None}, Flaw.PROOF_ALGORITHM),
        ({"alg": "none"}, Flaw.PROOF_ALGORITHM),
        ({"alg": "HS256"}, Flaw.PROOF_ALGORITHM),
        ({"alg": "ES512"}, Flaw.PROOF_ALGORITHM),
        ({"alg": "es256"}, Flaw.PROOF_ALGORITHM),
        ({"alg": ["ES256"]}, Flaw.PROOF_ALGORITHM),
        ({"alg": {"ES256": 1}}, Flaw.PROOF_ALGORITHM),
        ({"alg": "ES384"}, Flaw.PROOF_KEY),
        ({"alg": "RS256"}, Flaw.PROOF_KEY),
        ({"alg": "Ed25519"}, Flaw.PROOF_KEY),
        ({"jwk": None}, Flaw.PROOF_KEY),
        ({"jwk": "key"}, Flaw.PROOF_KEY),
        ({"jwk": []}, Flaw.PROOF_KEY),
        ({"jwk": {}}, Flaw.PROOF_KEY),
    ],
    ids=str,
)
async def test_a_header_that_is_not_a_proofs_is_refused(proofs: Proofs, header: dict[str, Any], flaw: Flaw) -> None:
    assert await flaw_of(proofs, HOLDER.prove(TOKEN, header=header)) is flaw


async def test_a_header_may_name_its_key_besides(proofs: Proofs) -> None:
    proof = present(HOLDER.prove(TOKEN, header={"kid": "../../etc/passwd", "cty": "x"}))
    assert await proofs.check(proof, TOKEN, bound_to=HOLDER.thumbprint, nonce=False)


def lengthen(coordinate: str) -> str:
    """The same number with a zero before it."""
    return encode(b"\0" + decode(coordinate.encode()))


@pytest.mark.parametrize(
    "jwk",
    [
        HOLDER.key.as_dict(private=True),
        *({**HOLDER.jwk, name: "AA"} for name in ("d", "p", "q", "dp", "dq", "qi", "k", "oth")),
        {**HOLDER.jwk, "d": None},
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "oct"},
        {name: value for name, value in HOLDER.jwk.items() if name != "kty"},
        {**HOLDER.jwk, "kty": "ec"},
        {**HOLDER.jwk, "kty": "RSA"},
        {**HOLDER.jwk, "kty": ["EC"]},
        {**HOLDER.jwk, "crv": "P-384"},
        {**HOLDER.jwk, "crv": "p-256"},
        {**HOLDER.jwk, "crv": None},
        {**HOLDER.jwk, "x": HOLDER.jwk["y"]},
        {**HOLDER.jwk, "x": encode(b"\0" * 32), "y": encode(b"\0" * 32)},
        {**HOLDER.jwk, "x": encode(b"\xff" * 32)},
        {**HOLDER.jwk, "x": lengthen(HOLDER.jwk["x"])},
        {**HOLDER.jwk, "x": HOLDER.jwk["x"] + "="},
        {**HOLDER.jwk, "x": ""},
        {**HOLDER.jwk, "x": 7},
        {**HOLDER.jwk, "x": "é" * 43},
        {name: value for name, value in HOLDER.jwk.items() if name != "y"},
        ECKey.generate_key("P-384").as_dict(private=False),
        ECKey.generate_key("secp256k1").as_dict(private=False),
    ],
)
async def test_a_key_that_is_no_public_key_for_es256_is_refused(proofs: Proofs, jwk: object) -> None:
    assert await flaw_of(proofs, HOLDER.prove(TOKEN, header={"jwk": jwk})) is Flaw.PROOF_KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"n": encode(b"\xff" * 128)},
        {"n": encode(b"\x7f" + b"\xff" * 255)},
        {"n": encode(b"\xff" * 513)},
        {"n": "AA" + RSA.as_dict(private=False)["n"]},  # type: ignore[operator]  # text, in an RSA key
        {"n": ""},
        {"e": "AQ"},
        {"e": "Aw"},
        {"e": "AQAA"},
        {"e": "AAEAAQ"},
        {"e": encode(b"\x01" + b"\0" * 30 + b"\x01")},
        {"e": ""},
    ],
    ids=lambda changes: ",".join(f"{name}={value[:12]}" for name, value in changes.items()),
)
@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
async def test_an_rsa_key_that_is_weak_or_odd_is_refused(
    proofs: Proofs, algorithm: str, changes: dict[str, str]
) -> None:
    holder = Prover(RSA, algorithm)
    proof = holder.prove(TOKEN, header={"jwk": {**holder.jwk, **changes}})
    assert await flaw_of(proofs, proof, holder=holder) is Flaw.PROOF_KEY


@pytest.mark.parametrize("curve", ["Ed448", "X25519"])
async def test_only_one_edwards_curve_is_accepted(proofs: Proofs, curve: str) -> None:
    jwk = OKPKey.generate_key(curve).as_dict(private=False)  # type: ignore[arg-type]  # one of its literals
    for algorithm in ("EdDSA", "Ed25519"):
        assert await flaw_of(proofs, HOLDER.prove(TOKEN, header={"alg": algorithm, "jwk": jwk})) is Flaw.PROOF_KEY


async def test_members_beside_the_key_mean_nothing(proofs: Proofs) -> None:
    jwk = {**HOLDER.jwk, "kid": "k", "use": "enc", "alg": "ES512", "x5u": "https://evil.test", "key_ops": ["sign"]}
    proof = present(HOLDER.prove(TOKEN, header={"jwk": jwk}))
    assert await proofs.check(proof, TOKEN, bound_to=HOLDER.thumbprint, nonce=False) == HOLDER.thumbprint


HEAD = {"typ": "dpop+jwt", "alg": "ES256", "jwk": HOLDER.jwk}
CLAIMS = {"jti": "one", "htm": "POST", "htu": URL, "iat": int(NOW), "ath": "x"}


def doubled(members: dict[str, Any], more: str) -> str:
    return json.dumps(members)[:-1] + f",{more}}}"


@pytest.mark.parametrize(
    "proof",
    [
        "proof",
        "..",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        HOLDER.prove(TOKEN) + "=",
        HOLDER.prove(TOKEN).replace(".", "=.", 1),
        " " + HOLDER.prove(TOKEN),
        HOLDER.prove(TOKEN) + "\n",
        HOLDER.prove(TOKEN) + ", " + HOLDER.prove(TOKEN),
        HOLDER.prove(TOKEN) + "é",
        HOLDER.prove(TOKEN) + "€",
        HOLDER.prove(TOKEN, pad="x" * PROOF_LIMIT),
        HOLDER.seal([1], CLAIMS),
        HOLDER.seal("{", CLAIMS),
        HOLDER.seal(HEAD, []),
        HOLDER.seal(HEAD, "null"),
        HOLDER.seal(HEAD, b"\xff\xfe{\0}\0"),
        HOLDER.seal(HEAD, b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode()),
        HOLDER.seal(HEAD, '{"a":' * 400 + "1" + "}" * 400),
        HOLDER.seal(HEAD, json.dumps(CLAIMS).replace(str(int(NOW)), "NaN")),
        HOLDER.seal(HEAD, json.dumps(CLAIMS).replace(str(int(NOW)), "Infinity")),
        HOLDER.seal(doubled(HEAD, '"alg":"ES256"'), CLAIMS),
        HOLDER.seal(doubled(HEAD, '"\\u0061lg":"ES256"'), CLAIMS),
        HOLDER.seal(HEAD, doubled(CLAIMS, '"jti":"one"')),
        HOLDER.seal(json.dumps(HEAD).replace('"crv"', '"kty":"EC","crv"'), CLAIMS),
    ],
    ids=lambda proof: proof[-24:],
)
async def test_what_is_not_one_well_formed_jws_is_refused(proofs: Proofs, proof: str) -> None:
    assert await flaw_of(proofs, proof) is Flaw.PROOF_FORMAT


async def test_no_proof_at_all_is_told_apart(proofs: Proofs) -> None:
    assert await flaw_of(proofs, "") is Flaw.PROOF_MISSING


@pytest.mark.parametrize(
    ("claims", "flaw"),
    [
        ({"jti": None}, Flaw.PROOF_FORMAT),
        ({"jti": ""}, Flaw.PROOF_FORMAT),
        ({"jti": 7}, Flaw.PROOF_FORMAT),
        ({"jti": ["one"]}, Flaw.PROOF_FORMAT),
        ({"jti": "j" * 257}, Flaw.PROOF_FORMAT),
        ({"htm": None}, Flaw.PROOF_TARGET),
        ({"htm": "post"}, Flaw.PROOF_TARGET),
        ({"htm": "GET"}, Flaw.PROOF_TARGET),
        ({"htm": ["POST"]}, Flaw.PROOF_TARGET),
        ({"htu": None}, Flaw.PROOF_TARGET),
        ({"htu": [URL]}, Flaw.PROOF_TARGET),
        ({"iat": None}, Flaw.PROOF_FORMAT),
        ({"iat": str(int(NOW))}, Flaw.PROOF_FORMAT),
        ({"iat": True}, Flaw.PROOF_FORMAT),
        ({"iat": -NOW}, Flaw.PROOF_FORMAT),
        ({"iat": 10**300}, Flaw.PROOF_TIME),
        ({"iat": 0}, Flaw.PROOF_TIME),
        ({"exp": NOW - AHEAD_SECONDS}, Flaw.PROOF_TIME),
        ({"exp": "soon"}, Flaw.PROOF_FORMAT),
        ({"nbf": NOW + AHEAD_SECONDS + 1}, Flaw.PROOF_TIME),
        ({"nbf": False}, Flaw.PROOF_FORMAT),
        ({"ath": None}, Flaw.PROOF_TOKEN),
        ({"ath": ""}, Flaw.PROOF_TOKEN),
        ({"ath": TOKEN}, Flaw.PROOF_TOKEN),
        ({"ath": "é"}, Flaw.PROOF_TOKEN),
        ({"ath": 7}, Flaw.PROOF_TOKEN),
    ],
    ids=str,
)
async def test_a_claim_that_does_not_fit_the_request_is_refused(
    proofs: Proofs, claims: dict[str, Any], flaw: Flaw
) -> None:
    assert await flaw_of(proofs, HOLDER.prove(TOKEN, **claims)) is flaw


async def test_a_proof_is_for_one_token(proofs: Proofs) -> None:
    assert await flaw_of(proofs, HOLDER.prove("another")) is Flaw.PROOF_TOKEN


async def test_a_thief_with_a_key_of_their_own_is_refused(proofs: Proofs) -> None:
    thief = Prover()
    assert await flaw_of(proofs, thief.prove(TOKEN)) is Flaw.PROOF_BINDING
    assert await flaw_of(proofs, thief.prove(TOKEN, header={"jwk": HOLDER.jwk})) is Flaw.PROOF_SIGNATURE
    with pytest.raises(Unauthenticated) as caught:
        await proofs.check(present(HOLDER.prove(TOKEN)), TOKEN, bound_to="né" * 20, nonce=False)
    assert caught.value.flaw is Flaw.PROOF_BINDING


async def test_a_known_key_vouches_for_no_other_signature(proofs: Proofs) -> None:
    await proofs.check(present(HOLDER.prove(TOKEN)), TOKEN, bound_to=HOLDER.thumbprint, nonce=False)
    thief = Prover()
    assert await flaw_of(proofs, thief.prove(TOKEN, header={"jwk": HOLDER.jwk})) is Flaw.PROOF_SIGNATURE
    head = HOLDER.prove(TOKEN).partition(".")[0]
    assert await flaw_of(proofs, f"{head}.{encode(CLAIMS)}.AAAA") is Flaw.PROOF_TOKEN
    whole = HOLDER.prove(TOKEN).rpartition(".")[0]
    for signature in ("AAAA", encode(b"\0" * 64), encode(b"\xff" * 64)):
        assert await flaw_of(proofs, f"{whole}.{signature}") is Flaw.PROOF_SIGNATURE


@pytest.mark.parametrize(
    ("age", "accepted"),
    [
        (0.0, True),
        (EVERY.window, True),
        (EVERY.window + 0.5, False),
        (-AHEAD_SECONDS, True),
        (-AHEAD_SECONDS - 1, False),
    ],
)
async def test_a_proof_counts_about_now_alone(proofs: Proofs, clock: Clock, age: float, accepted: bool) -> None:
    clock.now = NOW + age
    proof = HOLDER.prove(TOKEN)
    if accepted:
        assert await proofs.check(present(proof), TOKEN, bound_to=HOLDER.thumbprint, nonce=False)
    else:
        assert await flaw_of(proofs, proof) is Flaw.PROOF_TIME


@pytest.mark.parametrize(("named", "url"), SAME)
async def test_spellings_of_one_url_are_the_same(proofs: Proofs, named: str, url: str) -> None:
    proof = present(HOLDER.prove(TOKEN, htu=named), url=url)
    assert await proofs.check(proof, TOKEN, bound_to=HOLDER.thumbprint, nonce=False)


@pytest.mark.parametrize(("named", "url"), DIFFERENT)
async def test_another_url_is_another_target(proofs: Proofs, named: str, url: str) -> None:
    raw = json.dumps({**CLAIMS, "htu": named}, ensure_ascii="\ud800" in named).encode()
    found = await flaw_of(proofs, HOLDER.seal(HEAD, raw), url=url)
    assert found is (Flaw.PROOF_FORMAT if "\ud800" in named else Flaw.PROOF_TARGET)


async def test_a_proof_is_good_once(proofs: Proofs, state: State, clock: Clock) -> None:
    proof = HOLDER.prove(TOKEN)
    assert await proofs.check(present(proof), TOKEN, bound_to=HOLDER.thumbprint, nonce=False)
    assert await flaw_of(proofs, proof) is Flaw.PROOF_REPLAY
    other_replica = build_proofs(state, clock)
    assert await flaw_of(other_replica, proof) is Flaw.PROOF_REPLAY


async def test_a_refused_proof_is_not_remembered(proofs: Proofs, redis_server: RedisServer) -> None:
    await flaw_of(proofs, HOLDER.prove(TOKEN, iat=0))
    await flaw_of(proofs, HOLDER.prove(TOKEN, htm="GET"))
    await flaw_of(proofs, HOLDER.prove("another"))
    await flaw_of(proofs, Prover().prove(TOKEN, header={"jwk": HOLDER.jwk}))
    with pytest.raises(Unauthenticated):
        await proofs.check(present(HOLDER.prove(TOKEN)), TOKEN, bound_to=HOLDER.thumbprint, nonce=True)
    assert run_command(redis_server.admin, "KEYS", "arborgate:proof:*") == []
    await proofs.check(present(HOLDER.prove(TOKEN)), TOKEN, bound_to=HOLDER.thumbprint, nonce=False)
    assert run_command(redis_server.admin, "KEYS", "arborgate:proof:*") != []


@given(st.data())
def test_a_proof_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    proof = _PROOF.encode()
    position = data.draw(st.integers(0, len(proof) - 1))
    change = data.draw(st.sampled_from(["replace", "insert", "delete"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    changed = proof[:position] + (byte if change != "delete" else b"") + proof[position + (change != "insert") :]
    if changed == proof:
        return
    presented = present(changed.decode("latin-1"))

    async def check() -> None:
        # Nothing is behind this state: a proof that got as far as the replay check would be `Unavailable`.
        async with connect("redis://127.0.0.1:1/0", timeout=0.1) as nowhere:
            proofs = build_proofs(State(nowhere, "arborgate:"), Clock())
            with pytest.raises(Unauthenticated) as caught:
                await proofs.check(presented, TOKEN, bound_to=_CHANGED_BY.thumbprint, nonce=False)
            assert caught.value.flaw.of_proof

    asyncio.run(check())


_CHANGED_BY = Prover()
_PROOF = _CHANGED_BY.prove(TOKEN)


async def test_a_good_proof_without_the_state_is_nobodys_to_accept(clock: Clock) -> None:
    async with connect("redis://127.0.0.1:1/0", timeout=0.1) as nowhere:
        proofs = build_proofs(State(nowhere, "arborgate:"), clock)
        with pytest.raises(Unavailable):
            await proofs.check(present(HOLDER.prove(TOKEN)), TOKEN, bound_to=HOLDER.thumbprint, nonce=False)
