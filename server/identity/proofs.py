"""DPoP proofs (RFC 9449 section 4.3): who presents a token shows, for this one request, that they hold a private key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import unquote

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from ..scope import NONCE
from .flaws import Flaw, Unauthenticated
from .presenting import Presented
from .settings import DpopSettings
from .tokens import decode, read_object, read_seconds

AHEAD_SECONDS: Final = 10.0
"""How far the clock of whoever made a proof may be ahead of ours."""
PROOF_LIMIT: Final = 4_096
"""The most bytes a proof may have: bigger ones are refused before anything is parsed."""

_TYPE: Final = "dpop+jwt"
_MISLEADING: Final = frozenset({"b64", "crit", "jku", "x5c", "x5t", "x5t#S256", "x5u"})
"""Header parameters that say where else the key is, or how else to read the proof; others mean nothing here (`kid`)."""
_PRIVATE: Final = frozenset({"d", "dp", "dq", "k", "oth", "p", "q", "qi"})
_MODULUS_BITS: Final = range(2_048, 4_096 + 1)
_EXPONENTS: Final = range(65_537, 2**32)  # a small one is weak, a large one slow to verify with
_ID_LIMIT: Final = 256
_KEYS_KEPT: Final = 2_000

_PublicKey = ECKey | OKPKey | RSAKey


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """What a signature is verified by: joserfc's name of the algorithm, and the keys that fit it."""

    name: str
    key: type[_PublicKey]
    members: tuple[str, ...]
    curve: str = ""


_ALGORITHMS: Final[Mapping[str, _Algorithm]] = {
    "ES256": _Algorithm("ES256", ECKey, ("crv", "x", "y"), "P-256"),
    "ES384": _Algorithm("ES384", ECKey, ("crv", "x", "y"), "P-384"),
    "Ed25519": _Algorithm("Ed25519", OKPKey, ("crv", "x"), "Ed25519"),
    "EdDSA": _Algorithm("Ed25519", OKPKey, ("crv", "x"), "Ed25519"),  # what clients mean by it (RFC 9864)
    "PS256": _Algorithm("PS256", RSAKey, ("n", "e")),
    "RS256": _Algorithm("RS256", RSAKey, ("n", "e")),
}


class ReplayCheck(Protocol):
    """Remembers which proofs were used."""

    async def spend(self, thumbprint: str, proof_id: str) -> None:
        """Raises `Unauthenticated` for a proof that was used before, and `Unavailable` when nobody can tell."""
        ...


class NonceCheck(Protocol):
    """Knows the nonces of ours that are good now."""

    async def check(self, nonce: object) -> str:
        """The nonce to use from now on, "" to keep this one; raises `Unauthenticated` with the current nonce for one
        that is not good, and `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class _Signer:
    """The header of a proof, understood: its key, by what it verifies, and the key's thumbprint (RFC 7638)."""

    key: _PublicKey
    algorithm: str
    thumbprint: str

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        try:
            return JWSRegistry.algorithms[self.algorithm].verify(signed, signature, self.key)
        except (JoseError, ValueError):
            return False


class Proofs:
    """Checks DPoP proofs. What is cheap to find out comes first, what others are asked comes last."""

    def __init__(
        self,
        settings: DpopSettings,
        replays: ReplayCheck,
        nonces: NonceCheck,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._allowed = frozenset(settings.algorithms)
        self._window = settings.window
        self._replays = replays
        self._nonces = nonces
        self._clock = clock
        self._signers: OrderedDict[bytes, _Signer] = OrderedDict()

    async def check(self, presented: Presented, token: str, *, bound_to: str | None, nonce: bool) -> str:
        """The thumbprint (RFC 7638, base64url) of the proof's key, which must be `bound_to` unless that is None.

        `token` is what the proof must hold the hash of, "" where there is none yet (a token endpoint). `nonce`: the
        proof must hold a nonce of ours; when that one is about to be replaced, the request's scope gets its successor.
        Raises `Unauthenticated`, and `Unavailable` when nobody can tell whether the proof was used before."""
        header, payload, sealed = _split(presented.proof)
        signer = self._signers.get(header) or self._read_signer(header)
        if bound_to is not None and not hmac.compare_digest(signer.thumbprint.encode(), bound_to.encode()):
            raise Unauthenticated(Flaw.PROOF_BINDING)
        claims = _parse(payload)
        proof_id = self._check_claims(claims, presented, token)
        if not signer.verifies(header + b"." + payload, _decode(sealed)):
            raise Unauthenticated(Flaw.PROOF_SIGNATURE)
        if nonce and (successor := await self._nonces.check(claims.get("nonce"))):
            presented.scope[NONCE] = successor
        await self._replays.spend(signer.thumbprint, proof_id)
        if bound_to is not None:
            self._keep(header, signer)
        return signer.thumbprint

    def _read_signer(self, segment: bytes) -> _Signer:
        header = _parse(segment)
        if header.get("typ") != _TYPE:
            raise Unauthenticated(Flaw.PROOF_FORMAT, detail="typ")
        if not _MISLEADING.isdisjoint(header):
            raise Unauthenticated(Flaw.PROOF_FORMAT, detail=", ".join(sorted(_MISLEADING & header.keys())))
        name = header.get("alg")
        if not isinstance(name, str) or name not in self._allowed:
            raise Unauthenticated(Flaw.PROOF_ALGORITHM)
        algorithm = _ALGORITHMS[name]
        key = _import(header.get("jwk"), algorithm)
        return _Signer(key, algorithm.name, key.thumbprint())

    def _check_claims(self, claims: Mapping[str, Any], presented: Presented, token: str) -> str:
        """The proof's id, when it was made for this request, about now, and for this token."""
        proof_id = claims.get("jti")
        if not isinstance(proof_id, str) or not 0 < len(proof_id) <= _ID_LIMIT:
            raise Unauthenticated(Flaw.PROOF_FORMAT, detail="jti")
        if claims.get("htm") != presented.method:
            raise Unauthenticated(Flaw.PROOF_TARGET, detail="htm")
        if not _is_same(claims.get("htu"), presented.url):
            raise Unauthenticated(Flaw.PROOF_TARGET, detail="htu")
        self._check_times(claims)
        if token and claims.get("ath") != _hash(token):
            raise Unauthenticated(Flaw.PROOF_TOKEN)
        return proof_id

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        try:
            issued, expires, begins = (read_seconds(claims, name) for name in ("iat", "exp", "nbf"))
        except Unauthenticated as error:
            raise Unauthenticated(Flaw.PROOF_FORMAT, detail=error.detail) from error
        if issued is None:
            raise Unauthenticated(Flaw.PROOF_FORMAT, detail="iat")
        if not issued - AHEAD_SECONDS <= now <= issued + self._window:
            raise Unauthenticated(Flaw.PROOF_TIME, detail="iat")
        if expires is not None and not now < expires + AHEAD_SECONDS:
            raise Unauthenticated(Flaw.PROOF_TIME, detail="exp")
        if begins is not None and not begins - AHEAD_SECONDS <= now:
            raise Unauthenticated(Flaw.PROOF_TIME, detail="nbf")

    def _keep(self, header: bytes, signer: _Signer) -> None:
        """A client's header is the same from proof to proof. Only holders of bound tokens get here: nobody else can
        crowd them out."""
        self._signers[header] = signer
        self._signers.move_to_end(header)
        if len(self._signers) > _KEYS_KEPT:
            self._signers.popitem(last=False)


def _split(proof: str) -> tuple[bytes, bytes, bytes]:
    if not proof:
        raise Unauthenticated(Flaw.PROOF_MISSING)
    if len(proof) > PROOF_LIMIT:
        raise Unauthenticated(Flaw.PROOF_FORMAT, detail=f"{len(proof)} bytes")
    parts = proof.encode("latin-1", "replace").split(b".")
    if len(parts) != 3 or not all(parts):
        raise Unauthenticated(Flaw.PROOF_FORMAT, detail=f"{len(parts)} parts")
    return parts[0], parts[1], parts[2]


def _parse(segment: bytes) -> dict[str, Any]:
    try:
        return read_object(_decode(segment))
    except Unauthenticated as error:
        raise Unauthenticated(Flaw.PROOF_FORMAT, detail=error.detail) from error


def _decode(segment: bytes) -> bytes:
    try:
        return decode(segment)
    except Unauthenticated as error:
        raise Unauthenticated(Flaw.PROOF_FORMAT, detail=error.detail) from error


def _import(jwk: object, algorithm: _Algorithm) -> _PublicKey:
    """The public key of a JWK in its one canonical spelling; members that a thumbprint does not cover mean nothing."""
    kind = algorithm.key
    if not isinstance(jwk, dict) or jwk.get("kty") != kind.key_type or not _PRIVATE.isdisjoint(jwk):
        raise Unauthenticated(Flaw.PROOF_KEY)
    if algorithm.curve and jwk.get("crv") != algorithm.curve:
        raise Unauthenticated(Flaw.PROOF_KEY, detail="crv")
    if not all(isinstance(jwk.get(name), str) for name in algorithm.members):
        raise Unauthenticated(Flaw.PROOF_KEY, detail="a member is missing")
    given: dict[str, str | list[str]] = {name: str(jwk[name]) for name in ("kty", *algorithm.members)}
    try:
        if kind is RSAKey:
            _check_numbers(str(given["n"]), str(given["e"]))
        key = kind.import_key(given)
        canonical = kind.binding.convert_raw_key_to_dict(key.public_key, private=False)
    except (JoseError, ValueError) as error:
        raise Unauthenticated(Flaw.PROOF_KEY, detail=type(error).__name__) from error
    if {**canonical, "kty": kind.key_type} != given:
        raise Unauthenticated(Flaw.PROOF_KEY, detail="another spelling")
    return key


def _check_numbers(*numbers: str) -> None:
    modulus, exponent = (int.from_bytes(urlsafe_b64decode(number.encode())) for number in numbers)
    if modulus.bit_length() not in _MODULUS_BITS or exponent not in _EXPONENTS:
        raise ValueError("an RSA key of a size that is not accepted")


def _hash(token: str) -> str:
    """`ath` (RFC 9449 section 4.2): SHA-256 of the token, in base64url without padding."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_same(named: object, url: str) -> bool:
    """Whether `htu` names the URL that was asked: both normalised, the query and fragment of `htu` left out."""
    if named == url:
        return True
    return isinstance(named, str) and (normal := _normalise(named)) is not None and normal == _normalise(url)


_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^\s\[\]/?#@:]+)(?::(?P<port>[0-9]{0,5}))?(?P<path>/[^?#]*)?"
    r"(?:[?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE | re.ASCII)
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@lru_cache(maxsize=1_024)
def _normalise(url: str) -> str | None:
    """An http(s) URL as all its spellings are compared (RFC 3986 section 6.2.2 and 6.2.3); None for anything else."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    host = _ESCAPE.sub(_unescape, found["host"]).lower()
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    path = _remove_dots(_ESCAPE.sub(_unescape, found["path"] or "/"))
    return f"{scheme}://{host}:{port}{path}"


def _unescape(escape: re.Match[str]) -> str:
    character = unquote(escape[0], "latin-1")
    return character if character in _UNRESERVED else escape[0].upper()


def _remove_dots(path: str) -> str:
    """A path that begins with a slash, without its `.` and `..` (RFC 3986 section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
