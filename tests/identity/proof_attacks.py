"""Hostile proofs of possession, and bound tokens in the wrong hands: what is sent, and how it has to be refused."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from joserfc.jwk import ECKey, OctKey, RSAKey

from .attacks import Attack
from .scene import AUDIENCE, STRICT, URL, Header, Scene, bearer, dpop, encode, sign

Make = Callable[[Scene, str], str]

_RSA = RSAKey.generate_key(2048)
_NOW = int(time.time())


def _proof(name: str, make: Make, error: str = "invalid_dpop_proof") -> Attack:
    """A bound token of its rightful owner, with a proof that is none."""

    def send(scene: Scene) -> list[Header]:
        token = scene.bound()
        return dpop(token, make(scene, token))

    return Attack(name, send, error=error, scheme="DPoP")


def _claims(name: str, **changes: Any) -> Attack:
    return _proof(name, lambda scene, token: scene.proof(token, **changes))


def _header(name: str, **changes: Any) -> Attack:
    return _proof(name, lambda scene, token: scene.proof(token, changes))


def _sealed(scene: Scene, header: Any, payload: Any) -> str:
    """Just these two parts, signed by the holder's key."""
    return sign(header, payload, scene.holder)


def _head(scene: Scene) -> dict[str, Any]:
    return {"alg": "ES256", "typ": "dpop+jwt", "jwk": scene.holder.as_dict(private=False)}


def _stolen(scene: Scene) -> list[Header]:
    """The thief has the token, and a key of their own."""
    token, key = scene.bound(), ECKey.generate_key("P-256")
    return dpop(token, scene.proof(token, key=key))


def _swapped_key(scene: Scene, token: str) -> str:
    """The holder's public key in the header, another's signature."""
    thief = ECKey.generate_key("P-256")
    return sign(_head(scene), scene.proof_claims(token), thief)


def _off_curve(scene: Scene, token: str) -> str:
    jwk = {**scene.holder.as_dict(private=False), "x": encode(b"\1" * 32), "y": encode(b"\2" * 32)}
    return _sealed(scene, {**_head(scene), "jwk": jwk}, scene.proof_claims(token))


def _with_jwk(jwk: Any) -> Make:
    return lambda scene, token: _sealed(scene, {**_head(scene), "jwk": jwk}, scene.proof_claims(token))


def _hmac(scene: Scene, token: str) -> str:
    key = OctKey.generate_key(256)
    head = {"alg": "HS256", "typ": "dpop+jwt", "jwk": key.as_dict(private=True)}
    return sign(head, scene.proof_claims(token), key, "HS256")


def _by_rs512(scene: Scene, token: str) -> str:
    head = {"alg": "RS512", "typ": "dpop+jwt", "jwk": _RSA.as_dict(private=False)}
    return sign(head, scene.proof_claims(token), _RSA, "RS512")


def _json(members: Any, extra: str) -> str:
    """The members as JSON text, with some more put before the end."""
    return json.dumps(members)[:-1] + extra + "}"


def _strict(scene: Scene, **changes: Any) -> list[Header]:
    """A token of the issuer that wants a nonce of ours in each proof."""
    cnf = {"jkt": scene.holder.thumbprint()}
    token = scene.token({"kid": "s1"}, scene.strict, iss=STRICT, cnf=cnf)
    return dpop(token, scene.proof(token, **changes))


def _altered(scene: Scene, token: str) -> str:
    head, _, signature = scene.proof(token).split(".")
    return f"{head}.{encode(scene.proof_claims(token))}.{signature}"


HOLDERS = (
    Attack("stolen-token-without-a-key", lambda s: bearer(s.bound()), scheme="DPoP"),
    Attack("stolen-token-with-a-key-of-the-thief", _stolen, error="invalid_dpop_proof", scheme="DPoP"),
    Attack("bound-token-without-a-proof", lambda s: dpop(s.bound()), error="invalid_dpop_proof", scheme="DPoP"),
    Attack("bearer-token-dressed-up-with-a-proof", lambda s: dpop(s.token(), s.proof(s.token())), scheme="DPoP"),
    Attack(
        "two-proofs",
        lambda s: dpop(token := s.bound(), s.proof(token), s.proof(token)),
        error="invalid_dpop_proof",
        scheme="DPoP",
    ),
    Attack(
        "two-proofs-in-one-header",
        lambda s: dpop(token := s.bound(), f"{s.proof(token)}, {s.proof(token)}"),
        error="invalid_dpop_proof",
        scheme="DPoP",
    ),
    Attack(
        "the-token-as-its-own-proof",
        lambda s: dpop(token := s.bound(), token),
        error="invalid_dpop_proof",
        scheme="DPoP",
    ),
    Attack("the-proof-as-the-token", lambda s: bearer(s.proof("")), scheme="Bearer"),
    Attack("no-nonce-where-one-is-wanted", _strict, error="use_dpop_nonce", scheme="DPoP"),
    Attack("a-nonce-of-ones-own", lambda s: _strict(s, nonce="mine"), error="use_dpop_nonce", scheme="DPoP"),
    Attack("a-nonce-as-a-number", lambda s: _strict(s, nonce=7), error="use_dpop_nonce", scheme="DPoP"),
)

FORM = (
    _proof("a-proof-that-is-no-jwt", lambda *_: "proof"),
    _proof("a-proof-that-is-empty", lambda *_: ""),
    _proof("a-proof-without-a-signature", lambda s, t: s.proof(t).rpartition(".")[0] + "."),
    _proof("a-proof-of-nine-kilobytes", lambda s, t: s.proof(t, pad="x" * 9_000)),
    _proof("a-proof-with-padding", lambda s, t: s.proof(t) + "="),
    _proof("a-proof-that-is-a-list", lambda s, _: _sealed(s, _head(s), [1])),
    _proof("a-proof-with-alg-twice", lambda s, t: _sealed(s, _json(_head(s), ',"alg":"ES256"'), s.proof_claims(t))),
    _proof("a-proof-with-jti-twice", lambda s, t: _sealed(s, _head(s), _json(s.proof_claims(t), ',"jti":"j"'))),
    _proof("a-proof-altered-after-signing", _altered),
    _header("a-proof-without-its-type", typ=None),
    _header("a-proof-of-another-type", typ="at+jwt"),
    _header("a-proof-of-a-type-in-capitals-and-more", typ="DPOP+JWT; x"),
    _header("a-proof-with-crit", crit=["exp"]),
)

KEYS = (
    _proof(
        "a-proof-with-alg-none", lambda s, t: f"{encode({**_head(s), 'alg': 'none'})}.{encode(s.proof_claims(t))}.AAAA"
    ),
    _proof("a-shared-secret-as-the-key", _hmac),
    _proof("the-private-key-in-the-header", lambda s, t: s.proof(t, {"jwk": s.holder.as_dict(private=True)})),
    _proof("no-key-in-the-header", lambda s, t: s.proof(t, {"jwk": None})),
    _proof("a-key-that-is-text", _with_jwk("key")),
    _proof("a-key-that-is-empty", _with_jwk({})),
    _proof("a-key-on-no-curve", _with_jwk({"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"})),
    _proof("a-bad-curve-point", _off_curve),
    _proof("a-curve-that-does-not-fit-the-algorithm", _with_jwk(ECKey.generate_key("P-384").as_dict(private=False))),
    _proof("a-curve-that-is-not-accepted", _with_jwk(ECKey.generate_key("secp256k1").as_dict(private=False))),
    _proof("an-algorithm-that-is-not-accepted", _by_rs512),
    _proof("a-key-by-url", lambda s, t: s.proof(t, {"jwk": None, "jku": "https://evil.test/jwks"})),
    _proof("a-signature-by-another-key", _swapped_key),
    _proof("a-signature-of-nothing", lambda s, t: s.proof(t).rpartition(".")[0] + "." + encode(b"\0" * 64)),
)

TARGET = (
    _claims("wrong-htm", htm="GET"),
    _claims("htm-in-lower-case", htm="post"),
    _claims("htm-missing", htm=None),
    _claims("htm-as-a-list", htm=["POST"]),
    _claims("wrong-htu-host", htu="https://evil.test/mcp"),
    _claims("wrong-htu-path", htu=f"{URL}/approvals"),
    _claims("wrong-htu-below", htu=f"{AUDIENCE}/more"),
    _claims("wrong-htu-scheme", htu=AUDIENCE.replace("https", "http")),
    _claims("wrong-htu-port", htu="https://arborgate.test:8443/mcp"),
    _claims("htu-with-a-user", htu="https://arborgate.test@evil.test/mcp"),
    _claims("htu-without-a-host", htu="/mcp"),
    _claims("htu-missing", htu=None),
    _claims("htu-as-a-number", htu=7),
    _claims("htu-that-is-no-url", htu="https://[bad/mcp"),
    Attack(
        "wrong-htu-by-forwarded-headers",
        lambda s: [
            *dpop(token := s.bound(), s.proof(token, htu="https://evil.test/mcp")),
            ("x-forwarded-host", "evil.test"),
            ("forwarded", "host=evil.test;proto=https"),
        ],
        error="invalid_dpop_proof",
        scheme="DPoP",
    ),
)

TOKEN = (
    _claims("ath-missing", ath=None),
    _claims("ath-empty", ath=""),
    _claims("ath-of-another-token", ath=encode(hashlib.sha256(b"another").digest())),
    _proof("ath-that-is-the-token", lambda s, t: s.proof(t, ath=t)),
    _proof("ath-in-hexadecimal", lambda s, t: s.proof(t, ath=hashlib.sha256(t.encode()).hexdigest())),
)

TIMES = (
    _claims("proof-too-old", iat=_NOW - 3_600),
    _claims("proof-from-the-future", iat=_NOW + 3_600),
    _claims("proof-without-a-time", iat=None),
    _claims("proof-with-a-time-as-text", iat=str(_NOW)),
    _claims("proof-with-a-time-as-a-bool", iat=True),
    _claims("proof-with-an-endless-time", iat=10**30),
    _claims("proof-that-has-expired", exp=_NOW - 60),
    _claims("proof-without-an-id", jti=None),
    _claims("proof-with-an-empty-id", jti=""),
    _claims("proof-with-a-number-as-its-id", jti=7),
    _claims("proof-with-an-endless-id", jti="j" * 4_000),
)

PROOF_ATTACKS = (*HOLDERS, *FORM, *KEYS, *TARGET, *TOKEN, *TIMES)
