"""What parent apps sign about proposals: compact JWS (RFC 7515) by keys that are theirs alone. docs/parent-protocol.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
import rfc8785
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import Field, TypeAdapter, ValidationError

from ..policies.errors import BadConfiguration, Refused
from ..tools.closed import Closed

TYPE = "arborgate-parent+jwt"
"""The `typ` of a statement: nothing else that the key may ever sign can pass as one."""

ALGORITHMS = ("Ed25519", "EdDSA")
"""RFC 9864's name, and the older one that more libraries know; the keys are of Ed25519 in either case."""

LONGEST = 16_384
"""The most characters that a statement has."""

LONGEST_LIFE = 86_400.0
_CLOCK_LEEWAY = 60.0
_MOST_KEYS = 16

Seconds = Annotated[float, Field(gt=0, lt=2**53)]


class ParentVerdict(StrEnum):
    """What a parent app says of a proposal. To pass leaves it to people."""

    APPROVE = "approve"
    REJECT = "reject"
    PASS = "pass"  # noqa: S105  # a verdict, no password


class Statement(Closed):
    """What is signed. `app` is the parent app's id, `iat` and `exp` are seconds since the epoch (RFC 7519), `jti` is new in
    each statement."""

    proposal: Annotated[str, Field(max_length=64)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    verdict: ParentVerdict
    reason: Annotated[str, Field(max_length=1_000)]
    app: Annotated[str, Field(max_length=400)]
    iat: Seconds
    exp: Seconds
    jti: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]


_statement = TypeAdapter(Statement)

Keys = Mapping[str, OKPKey]
"""Public keys by the names (`kid`) that a statement may give them: its own, and its thumbprint (RFC 7638)."""


def sign_statement(statement: Statement, key: OKPKey) -> str:
    """The statement as a compact JWS."""
    header = {"alg": ALGORITHMS[0], "typ": TYPE, "kid": key.thumbprint()}
    return jws.serialize_compact(
        header, rfc8785.dumps(statement.model_dump(mode="json")), key, algorithms=[*ALGORITHMS]
    )


def read_statement(text: str, keys: Keys) -> Statement:
    """What one of these keys has signed. Says nothing about when, or of what; raises `Refused`."""
    if len(text) > LONGEST or not text.isascii():
        raise Refused("The statement is not a compact JWS.", detail="it is too long, or not ASCII")
    try:
        header = jws.extract_compact(text.encode()).headers()
        if header.get("alg") not in ALGORITHMS:
            raise Refused(
                "The statement is signed in a way that is not taken.", detail=f"alg {header.get('alg')!r}"[:80]
            )
        if header.keys() != {"alg", "typ", "kid"}:
            raise Refused("The statement's header has more or less than alg, typ and kid.")
        if header.get("typ") != TYPE:
            raise Refused("What is signed is no statement of a parent app.", detail=f"typ {header.get('typ')!r}"[:80])
        key = keys.get(str(header.get("kid", "")))
        if key is None:
            raise Refused("The statement is signed with a key that the parent app does not have.")
        signed = jws.deserialize_compact(text, key, algorithms=[*ALGORITHMS])
        return _statement.validate_json(signed.payload, strict=True)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
        raise Refused(
            "The statement says something else than the protocol has.", detail=f"field {where}"[:80]
        ) from error
    except (JoseError, ValueError) as error:
        raise Refused("The statement is not validly signed.", detail=type(error).__name__) from error


def check_times(statement: Statement, now: float) -> None:
    """Raises `Refused` unless it was made by now, is still good, and not for too long."""
    if statement.iat > now + _CLOCK_LEEWAY:
        raise Refused("The statement was made in the future.")
    if not statement.iat < statement.exp <= statement.iat + LONGEST_LIFE:
        raise Refused("The statement is good for longer than a day, or for no time at all.")
    if now >= statement.exp:
        raise Refused("The statement has expired.")


def parse_keys(text: bytes | str | Mapping[str, Any], where: str) -> Keys:
    """The public keys of a JWK Set (RFC 7517 section 5); raises `BadConfiguration` that names `where` they are from."""
    try:
        raw = text if isinstance(text, Mapping) else orjson.loads(text)
        listed = raw["keys"]
        if not isinstance(listed, Sequence) or not 0 < len(listed) <= _MOST_KEYS:
            raise BadConfiguration(f"{where}: should hold 1 to {_MOST_KEYS} keys")
        keys = [OKPKey.import_key(dict(each)) for each in listed]
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise BadConfiguration(f"{where}: is not a JWK Set of Ed25519 keys (RFC 8037)") from error
    if any(key.is_private for key in keys):
        raise BadConfiguration(f"{where}: holds a private key; only the parent's controller has that")
    if any(key.curve_name != "Ed25519" for key in keys):
        raise BadConfiguration(f"{where}: is not a JWK Set of Ed25519 keys (RFC 8037)")
    named = {str(key.as_dict(private=False).get("kid") or key.thumbprint()): key for key in keys}
    return {**{key.thumbprint(): key for key in keys}, **named}
