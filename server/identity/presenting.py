"""How a token is presented: what a request brings besides the token itself, read from its headers."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from starlette.types import Scope

from ...policies.errors import BadConfiguration
from ..scope import PEER
from .flaws import Flaw, Unauthenticated

_CERTIFICATE_LIMIT: Final = 16_384


class Scheme(StrEnum):
    """The scheme of the Authorization header."""

    BEARER = "bearer"
    DPOP = "dpop"


@dataclass(frozen=True, slots=True)
class Presented:
    """What comes with a token. `proof` is the DPoP header as it came, `method` and `url` what it must be for (`url`
    is the public one, without query and fragment); `certificate` is the client's, DER, from a trusted proxy; `scope`
    is where the answer is told what the client needs to know (`NONCE`)."""

    scheme: Scheme = Scheme.BEARER
    proof: str = ""
    method: str = ""
    url: str = ""
    certificate: bytes = b""
    scope: Scope = field(default_factory=dict, compare=False, repr=False)


BEARER = Presented()
"""A bare bearer token."""


class ClientCertificates:
    """The certificates that clients showed to a trusted proxy, passed on in a header (RFC 9440 section 2)."""

    def __init__(self, header: str, proxies: Sequence[str]) -> None:
        """`header` is its name, `proxies` the addresses and networks that are believed; raises `BadConfiguration`.

        The proxy must remove the header from what clients send; whoever connects from elsewhere is not believed."""
        self._header = header.lower().encode("latin-1", "replace")
        self._networks = [_read_network(proxy) for proxy in proxies]
        if not self._networks:
            raise BadConfiguration(
                "http.client_cert_header: is believed of http.trusted_proxies alone, and there are none",
                hint="Name the addresses of the proxies that end TLS, or leave the header out.",
            )
        self._trusts = lru_cache(maxsize=1_024)(self._is_proxy)

    def read(self, scope: Scope) -> bytes:
        """The certificate, DER; b"" for none, for one that can't be read, and for two, of which one may be forged."""
        values = [value for name, value in scope["headers"] if name == self._header]
        if len(values) != 1 or len(values[0]) > _CERTIFICATE_LIMIT or not self._trusts(scope.get(PEER, "")):
            return b""
        item = values[0].strip(b" ")
        if len(item) < 2 or not item.startswith(b":") or not item.endswith(b":"):
            return b""
        try:
            return base64.b64decode(item[1:-1], validate=True)
        except ValueError:
            return b""

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def read_token(scope: Scope, public_url: str, certificates: ClientCertificates | None = None) -> tuple[str, Presented]:
    """The token of the one Authorization header and how it is presented (RFC 6750 section 2.1, RFC 9449 section 7.1);
    never from a query or a body. `("", BEARER)` when there is none. Raises `Unauthenticated`.

    What a proof must be for is `public_url` and the path as it was asked for: no header has a say in it."""
    header = proof = b""
    headers = proofs = 0
    for name, value in scope["headers"]:
        if name == b"authorization":
            header, headers = value, headers + 1
        elif name == b"dpop":
            proof, proofs = value, proofs + 1
    if not headers:
        return "", BEARER
    scheme, _, token = header.decode("latin-1").partition(" ")
    if headers > 1:
        raise Unauthenticated(Flaw.REQUEST)
    token = token.strip()
    certificate = certificates.read(scope) if certificates is not None else b""
    match scheme.lower():
        case Scheme.BEARER:
            return token, Presented(certificate=certificate) if certificate else BEARER
        case Scheme.DPOP:
            if proofs > 1:
                raise Unauthenticated(Flaw.PROOF_FORMAT, detail="more than one DPoP header")
            url = f"{public_url}{_read_path(scope)}"
            return token, Presented(Scheme.DPOP, proof.decode("latin-1"), scope["method"], url, certificate, scope)
        case _:  # a scheme of somebody else's is no credential here (RFC 6750 section 3.1)
            return "", BEARER


def _read_path(scope: Scope) -> str:
    """The path with its escapes: where these are undone, two paths may look like one."""
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw is not None else quote(scope["path"])


def _read_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise BadConfiguration(
            f"http.trusted_proxies: {text!r} is no address and no network",
            hint="With http.client_cert_header each must be one, like 10.1.2.3 or 10.1.0.0/16.",
        ) from None
