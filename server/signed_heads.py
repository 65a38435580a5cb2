"""Signed heads: what the key of a log says about how far its chain has come, so that nobody can shorten or rewrite it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from ..policies.errors import BadConfiguration
from .approvals import ALGORITHM, load_key

TYPE = "arborgate-record-head+jwt"
"""The `typ` of the signature, so that nothing else that the key may ever sign can pass as a head."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The chain of `replica` had come to line `seq`, which had `hash` (hexadecimal SHA-256), at `time` (RFC 3339 UTC)."""

    replica: str
    seq: int
    hash: str
    time: str


def sign_head(head: SignedHead, key: OKPKey) -> str:
    """A compact JWS (RFC 7515) whose payload is the head as a JSON object."""
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.thumbprint()}
    return jws.serialize_compact(header, orjson.dumps(head), key, algorithms=[ALGORITHM])


def open_head(text: str, keys: Mapping[str, OKPKey]) -> SignedHead:
    """The head in a JWS by one of the keys (by thumbprint); raises ValueError saying why it is none."""
    try:
        key = keys.get(str(jws.extract_compact(text.encode()).headers().get("kid")))
        if key is None:
            raise ValueError("the signature is by a key that was not given")
        signed = jws.deserialize_compact(text, key, algorithms=[ALGORITHM])
    except JoseError as error:
        raise ValueError("the signature does not hold") from error
    if signed.headers().get("typ") != TYPE:
        raise ValueError("the signature is of another type")
    return _parse(signed.payload)


def read_head(path: Path, keys: Mapping[str, OKPKey]) -> SignedHead:
    """The head in a file, checked where there are keys to check it with; raises ValueError saying why it is none."""
    try:
        text = path.read_bytes().strip().decode(errors="replace")
    except OSError as error:
        raise ValueError(f"it can't be read: {error.strerror}") from error
    if keys:
        return open_head(text, keys)
    try:
        return _parse(jws.extract_compact(text.encode()).payload)
    except JoseError as error:
        raise ValueError("it is no signed head") from error


def head_file(log: Path) -> Path:
    """The file beside a log that holds its last signed head."""
    return log.with_suffix(".head")


def write_head(log: Path, signature: str) -> None:
    """Puts a signed head beside its log, in the place of the one before; raises OSError."""
    path = head_file(log)
    fresh = path.with_suffix(".head.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(signature + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_record_key(path: Path) -> OKPKey:
    """The private key of `record.signing_key_file`; raises `BadConfiguration`."""
    key = load_key(path, "record.signing_key_file")
    if not key.is_private:
        raise BadConfiguration(f"record.signing_key_file: {path} holds a public key, which can't sign")
    return key


def read_public_key(path: Path | None) -> OKPKey | None:
    """The public half of `record.signing_key_file`, which heads are checked with; None where nothing signs. Raises
    `BadConfiguration`."""
    return OKPKey.import_key(load_record_key(path).as_dict(private=False)) if path else None


def _parse(payload: bytes) -> SignedHead:
    try:
        body: Any = orjson.loads(payload)
        head = SignedHead(**body)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise ValueError("the signature is over no head") from error
    if type(head.seq) is not int or not all(type(each) is str for each in (head.replica, head.hash, head.time)):
        raise ValueError("the signature is over no head")
    return head
