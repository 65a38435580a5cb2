"""Hostile tokens, each named for the attack: what is sent, and how it has to be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from .scene import AUDIENCE, HOME, NEIGHBOUR, STRANGER, STRICT, URL, Header, Scene, bearer, encode, sign

_GOOD = {"alg": "ES256", "kid": "h1", "typ": "at+jwt"}
_SMALL_RSA = RSAKey.generate_key(2048)


@dataclass(frozen=True)
class Attack:
    """`send` gives the headers of the request; `scheme`, `error` and `status` are of the answer."""

    name: str
    send: Callable[[Scene], Sequence[Header]]
    error: str = "invalid_token"
    scheme: str = "Bearer"
    status: int = 401


_PASSWORD_BASED = {"alg": "PBES2-HS256+A128KW", "p2c": 10**9, "p2s": "AA", "kid": "h1"}


def _token(name: str, make: Callable[[Scene], str]) -> Attack:
    return Attack(name, lambda scene: bearer(make(scene)))


def _claims(name: str, **changes: Any) -> Attack:
    return Attack(name, lambda scene: bearer(scene.token(**changes)))


def _header(name: str, **changes: Any) -> Attack:
    return Attack(name, lambda scene: bearer(scene.token(changes)))


def _unsigned(header: dict[str, Any], scene: Scene, signature: str = "") -> str:
    return f"{encode(header)}.{encode(scene.claims())}.{signature}"


def _raw(name: str, make: Callable[[Scene], Any], header: Any = None) -> Attack:
    """A token signed by HOME, whose payload is just this."""
    return Attack(name, lambda scene: bearer(sign(header or _GOOD, make(scene), scene.home)))


def _adding(name: str, extra: str) -> Attack:
    """Good claims with some JSON text put before their end."""
    return _raw(name, lambda scene: _text(scene, extra))


def _text(scene: Scene, extra: str) -> str:
    """The claims as JSON text, with something put before the end."""
    return orjson.dumps(scene.claims()).decode()[:-1] + extra + "}"


def _hmac_with(secret: bytes) -> Callable[[Scene], str]:
    return lambda scene: sign({**_GOOD, "alg": "HS256"}, scene.claims(), OctKey.import_key(secret), "HS256")


def _hmac_with_public_key(scene: Scene) -> str:
    """The algorithm confusion of old: the public key, as text, taken for a shared secret."""
    secret = scene.home.as_pem(private=False)
    signing = f"{encode({'alg': 'HS256', 'kid': 'h1', 'typ': 'at+jwt'})}.{encode(scene.claims())}"
    return f"{signing}.{encode(hmac.new(secret, signing.encode(), hashlib.sha256).digest())}"


def _swap(part: int, replacement: Callable[[Scene], str]) -> Callable[[Scene], str]:
    def make(scene: Scene) -> str:
        parts = scene.token().split(".")
        parts[part] = replacement(scene)
        return ".".join(parts)

    return make


def _own_key() -> ECKey:
    return ECKey.generate_key("P-256")


def _embedded(scene: Scene) -> str:
    key = _own_key()
    return scene.token({"jwk": key.as_dict(private=False), "kid": None}, key)


def _pointed(header: str, value: Any) -> Callable[[Scene], str]:
    return lambda scene: scene.token({header: value, "kid": None}, _own_key())


def _stray_bits(token: str) -> str:
    """The token with the unused bits of its last character set: other text, same signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _changed(scene: Scene) -> str:
    head, body, signature = scene.token().split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{encode({**claims, 'sub': 'root'})}.{signature}"


def _text_of(scene: Scene, claim: str, value: str) -> str:
    """The claims as JSON text, one of them written by hand."""
    return orjson.dumps(scene.claims(**{claim: None})).decode()[:-1] + f',"{claim}":{value}}}'


FORM = (
    _token("a-text-that-is-no-token", lambda _: "letmein"),
    _token("two-parts", lambda s: ".".join(s.token().split(".")[:2])),
    _token("four-parts", lambda s: s.token() + ".AAAA"),
    _token("five-parts-as-if-encrypted", lambda _: f"{encode({'alg': 'dir', 'enc': 'A256GCM'})}..a.b.c"),
    _token("empty-parts", lambda _: ".."),
    _token("oversized", lambda s: s.token(pad="x" * 17_000)),
    _token("as-large-as-allowed-and-unsigned", lambda _: f"{encode({'alg': 'none'})}.{encode('x' * 12_000)}.AAAA"),
    _token("header-that-is-no-json", _swap(0, lambda _: encode("{alg:ES256}"))),
    _token("header-that-is-a-list", _swap(0, lambda _: encode(["ES256"]))),
    _raw("claims-that-are-a-list", lambda s: [s.claims()]),
    _raw("claims-that-are-no-utf-8", lambda _: b'{"iss":"\xff\xfe"}'),
    _raw("claims-that-are-empty", lambda _: b""),
    _adding("claims-nested-too-deep", ',"x":' + "[" * 4_000 + "]" * 4_000),
    _token("base64-with-padding", lambda s: s.token() + "=="),
    _token("base64-of-the-other-alphabet", lambda s: s.token().replace("_", "/").replace("-", "+") + "+/"),
    _token("base64-with-a-line-break", lambda s: s.token().replace(".", ".\t", 1)),
    _token("base64-with-stray-bits", lambda s: _stray_bits(s.token())),
    _raw("a-token-in-a-token", lambda s: s.token(), {**_GOOD, "cty": "JWT"}),
    _token("json-instead-of-compact", lambda s: f'{{"payload":"{encode(s.claims())}","signature":"AA"}}'),
    _raw("two-algorithms-in-the-header", lambda s: s.claims(), '{"alg":"none","alg":"ES256","kid":"h1"}'),
    _adding("two-subjects", ',"sub":"root"'),
    _adding("two-audiences-members", f',"aud":"{AUDIENCE}"'),
    _adding("two-expiries", ',"exp":9999999999'),
    _adding("two-issuers", f',"iss":"{HOME}"'),
    _adding("groups-twice", ',"groups":["arborgate-approvers"]'),
)

ALGORITHM = (
    _token("alg-none", lambda s: _unsigned({"alg": "none", "typ": "at+jwt"}, s)),
    _token("alg-none-with-a-signature", lambda s: _unsigned({"alg": "none", "kid": "h1"}, s, "AAAA")),
    _token("alg-none-in-capitals", lambda s: _unsigned({"alg": "NONE", "kid": "h1"}, s, "AAAA")),
    _token("alg-none-in-mixed-case", lambda s: _unsigned({"alg": "nOnE", "kid": "h1"}, s, "AAAA")),
    _token("alg-empty", lambda s: _unsigned({"alg": "", "kid": "h1"}, s, "AAAA")),
    _token("alg-missing", lambda s: _unsigned({"kid": "h1"}, s, "AAAA")),
    _token("alg-as-a-number", lambda s: _unsigned({"alg": 7, "kid": "h1"}, s, "AAAA")),
    _token("alg-as-a-list", lambda s: _unsigned({"alg": ["ES256"], "kid": "h1"}, s, "AAAA")),
    _token("alg-in-lower-case", lambda s: _unsigned({"alg": "es256", "kid": "h1"}, s, s.token().split(".")[2])),
    _token("algorithm-confusion-with-the-public-key", _hmac_with_public_key),
    _token("algorithm-confusion-with-an-empty-secret", _hmac_with(b"\0" * 32)),
    _token("algorithm-confusion-with-the-kid", _hmac_with(b"h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1")),
    _token("key-of-another-kind-than-the-alg-says", lambda s: _unsigned({**_GOOD, "alg": "RS256"}, s, "AAAA")),
    _token("key-agreement-instead-of-a-signature", lambda s: _unsigned({"alg": "ECDH-ES", "kid": "h1"}, s, "AAAA")),
    _token("password-based-with-a-billion-rounds", lambda s: _unsigned(_PASSWORD_BASED, s, "AAAA")),
    _token(
        "an-algorithm-not-accepted-here", lambda s: sign({"alg": "RS512", "kid": "r1"}, s.claims(), _SMALL_RSA, "RS512")
    ),
)

SIGNATURE = (
    _token("signature-of-nothing", _swap(2, lambda _: encode(b"\0" * 64))),
    _token("signature-of-another-token", _swap(2, lambda s: s.token(sub="ben").split(".")[2])),
    _token("signature-cut-short", lambda s: s.token()[:-4]),
    _token("signature-in-der", _swap(2, lambda _: encode(b"\x30\x06\x02\x01\x01\x02\x01\x01"))),
    _token("signature-missing", _swap(2, lambda _: "")),
    _token("claims-changed-after-signing", _changed),
    _token("signed-by-a-key-of-ones-own", lambda s: s.token(key=_own_key())),
    _token("signed-by-a-key-of-ones-own-without-kid", lambda s: s.token({"kid": None}, _own_key())),
    _token("signed-by-the-neighbouring-issuer", lambda s: s.token({"kid": "n1"}, s.neighbour)),
    _token("signed-by-the-neighbour-under-our-kid", lambda s: s.token(key=s.neighbour)),
    _token("ed25519-key-of-ones-own", lambda s: s.token({"alg": "Ed25519"}, OKPKey.generate_key("Ed25519"))),
)

HEADER = (
    _token("embedded-jwk", _embedded),
    _token("jku-of-the-attacker", _pointed("jku", "https://evil.test/jwks")),
    _token("jku-that-looks-like-the-issuer", _pointed("jku", f"{HOME}@evil.test/jwks")),
    _token("x5u-of-the-attacker", _pointed("x5u", "https://evil.test/cert.pem")),
    _token("x5c-of-the-attacker", _pointed("x5c", ["MIIB"])),
    _header("crit-that-nobody-understands", crit=["exp"]),
    _header("crit-that-is-empty", crit=[]),
    _header("payload-that-is-not-encoded", b64=False, crit=["b64"]),
    _header("compressed", zip="DEF"),
    _header("kid-traversal", kid="../../../../dev/null"),
    _header("kid-traversal-by-url", kid="https://evil.test/key"),
    _header("kid-with-sql", kid="h1' UNION SELECT 'secret"),
    _header("kid-with-a-command", kid="h1|/bin/true"),
    _header("kid-with-a-null-byte", kid="h1\0.pem"),
    _header("kid-as-a-number", kid=1),
    _header("kid-as-an-object", kid={"$ne": ""}),
    _header("kid-empty", kid=""),
    _header("kid-of-a-key-for-encryption", kid="e1"),
    _header("kid-of-eight-kilobytes", kid="k" * 8_000),
    _header("a-proof-as-a-token", typ="dpop+jwt"),
    _header("a-logout-token-by-its-type", typ="logout+jwt"),
    _header("a-security-event-by-its-type", typ="secevent+jwt"),
    _header("typ-as-a-number", typ=7),
    _header("content-that-is-a-token", cty="JWT"),
)

ISSUER = (
    _claims("issuer-missing", iss=None),
    _claims("issuer-empty", iss=""),
    _claims("issuer-as-a-list", iss=[HOME]),
    _claims("issuer-as-an-object", iss={"url": HOME}),
    _claims("issuer-unknown", iss=STRANGER),
    _claims("issuer-with-a-slash", iss=f"{HOME}/"),
    _claims("issuer-in-capitals", iss=HOME.upper()),
    _claims("issuer-with-the-default-port", iss=f"{HOME}:443"),
    _claims("issuer-without-tls", iss=HOME.replace("https", "http")),
    _claims("issuer-with-a-user", iss=HOME.replace("://", "://login.test@")),
    _claims("issuer-look-alike-in-cyrillic", iss=HOME.replace("o", "о")),
    _claims("issuer-look-alike-below-another-domain", iss=f"{HOME}.evil.test"),
    _claims("issuer-with-a-space", iss=f"{HOME} "),
    _claims("issuer-of-the-neighbour-by-our-key", iss=NEIGHBOUR),
    _claims("issuer-that-is-arborgate-itself", iss=URL),
)

AUDIENCES = (
    _claims("audience-missing", aud=None),
    _claims("audience-empty", aud=""),
    _claims("audience-of-another", aud="https://another.test/mcp"),
    _claims("audience-without-the-path", aud=URL),
    _claims("audience-with-a-slash", aud=f"{AUDIENCE}/"),
    _claims("audience-in-capitals", aud=AUDIENCE.upper()),
    _claims("audience-of-the-approvals", aud=f"{URL}/approvals"),
    _claims("audience-that-begins-like-ours", aud=f"{AUDIENCE}.evil.test"),
    _claims("audience-list-without-ours", aud=["https://another.test/mcp", URL]),
    _claims("audience-list-that-is-empty", aud=[]),
    _claims("audience-list-in-a-list", aud=[[AUDIENCE]]),
    _claims("audience-list-with-other-things", aud=[AUDIENCE, {"and": "more"}]),
    _claims("audience-as-an-object", aud={AUDIENCE: True}),
    _claims("audience-of-the-client", aud="ide-copilot"),
)

TIMES = (
    _claims("expired", exp=int(time.time()) - 3_600, iat=int(time.time()) - 7_200),
    _claims("expired-at-the-epoch", exp=0),
    _claims("expiry-missing", exp=None),
    _claims("expiry-as-text", exp="9999999999"),
    _claims("expiry-as-a-bool", exp=True),
    _claims("expiry-as-a-list", exp=[int(time.time()) + 300]),
    _claims("expiry-negative", exp=-1),
    _claims("expiry-in-the-far-future", exp=int(time.time()) + 10 * 365 * 86_400),
    _claims("expiry-beyond-any-calendar", exp=10**18),
    _raw("expiry-infinite", lambda s: _text_of(s, "exp", "1e999")),
    _raw("expiry-not-a-number", lambda s: _text_of(s, "exp", "NaN")),
    _claims("not-yet-valid", nbf=int(time.time()) + 3_600),
    _claims("not-before-as-text", nbf="0"),
    _claims("issued-in-the-future", iat=int(time.time()) + 3_600),
    _claims("issued-as-an-object", iat={}),
    _claims("issued-long-ago-to-live-for-long", iat=int(time.time()) - 10 * 365 * 86_400),
)

CLAIMS = (
    _claims("subject-missing", sub=None),
    _claims("subject-empty", sub=""),
    _claims("subject-as-a-number", sub=7),
    _claims("subject-as-a-list", sub=["ada", "root"]),
    _claims("an-id-token-by-its-nonce", nonce="n-1"),
    _claims("an-id-token-by-its-hash", at_hash="abc"),
    _claims("a-logout-token-by-its-events", events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    _claims("actor-as-text", act="root"),
    _claims("actor-as-a-list", act=[{"sub": "root"}]),
    _claims("bound-in-a-way-nobody-knows", cnf={"magic": "yes"}),
    _claims("bound-to-an-embedded-key", cnf={"jwk": {"kty": "oct", "k": "AAAA"}}),
    _claims("bound-by-text", cnf="jkt"),
    _claims("bound-to-nothing", cnf={}),
    _claims("bound-to-a-number", cnf={"jkt": 7}),
    _claims("bound-to-a-certificate-that-is-not-there", cnf={"x5t#S256": "AAAA"}),
    Attack(
        "a-plain-jwt-where-only-at+jwt-will-do",
        lambda s: bearer(s.token({"typ": "JWT", "kid": "s1"}, s.strict, iss=STRICT)),
    ),
    Attack(
        "an-unbound-token-where-only-bound-ones-will-do",
        lambda s: bearer(s.token({"kid": "s1"}, s.strict, iss=STRICT)),
        scheme="DPoP",
    ),
)


def _large(name: str, members: str) -> Attack:
    """Good claims but for the expiry, with as much beside them as a token may hold."""
    return _raw(name, lambda scene: _text(scene, f',{members},"exp":1').replace('"exp":', '"was":', 1))


LARGE = (
    _large("large-by-one-text", '"x":"' + "x" * 11_000 + '"'),
    _large("large-by-lists", '"x":[' + ",".join(["[]"] * 3_600) + "]"),
    _large("large-by-objects", '"x":[' + ",".join(["{}"] * 3_600) + "]"),
    _large("large-by-depth", '"x":' + "[" * 900 + "]" * 900),
    _large("large-by-members", ",".join(f'"{number:05}":0' for number in range(1_100))),
    _large("large-by-actors", '"act":' + '{"sub":"a","act":' * 580 + "{}" + "}" * 580),
    _large("large-by-a-number", '"x":' + "9" * 4_000),
    _large("large-by-groups", '"x":[' + ",".join(f'"{number:07}"' for number in range(1_050)) + "]"),
)

PRESENTATION = (
    Attack("no-token", lambda _: [], error=""),
    Attack("basic-authentication", lambda _: [("authorization", "Basic YTpi")], error=""),
    Attack("a-scheme-alone", lambda _: [("authorization", "Bearer")], error=""),
    Attack("the-token-as-the-scheme", lambda s: [("authorization", s.token())], error=""),
    Attack("the-token-in-a-cookie", lambda s: [("cookie", f"access_token={s.token()}")], error=""),
    Attack("two-authorization-headers", lambda s: bearer(s.token()) * 2, "invalid_request", status=400),
    Attack("a-good-token-and-a-bad", lambda s: [*bearer(s.token()), *bearer("x")], "invalid_request", status=400),
    _token("two-tokens-in-one-header", lambda s: f"{s.token()},{s.token()}"),
    _token("a-token-and-a-word", lambda s: f"{s.token()} please"),
)

ATTACKS = (*FORM, *ALGORITHM, *SIGNATURE, *HEADER, *ISSUER, *AUDIENCES, *TIMES, *CLAIMS, *LARGE, *PRESENTATION)
