"""Approvals are signed: being able to write to Redis does not make anyone an approver."""

from __future__ import annotations

from pathlib import Path

import orjson
import rfc8785
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from ..policies.errors import BadConfiguration, Refused
from ..tools.proposal import Approval

ALGORITHM = "Ed25519"
"""RFC 9864's name: it leaves nothing about the curve to be chosen."""

TYPE = "arborgate-approval+jwt"
"""The `typ` of the signature, so that nothing else that the key may ever sign can pass as an approval."""


def sign_approval(approval: Approval, key: OKPKey) -> Approval:
    """The approval with `signature`: a compact JWS (RFC 7515) whose payload is the canonical JSON of all the rest."""
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.thumbprint()}
    signature = jws.serialize_compact(header, _payload(approval), key, algorithms=[ALGORITHM])
    return approval.model_copy(update={"signature": signature})


def verify_approval(approval: Approval, key: OKPKey) -> None:
    """Raises `Refused` unless `signature` is the key's, over exactly what the approval says."""
    try:
        signed = jws.deserialize_compact(approval.signature, key, algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise _not_signed(approval, type(error).__name__) from error
    if signed.headers().get("typ") != TYPE:
        raise _not_signed(approval, "the signature is of another type")
    if signed.payload != _payload(approval):
        raise _not_signed(approval, "the signature is over something else")


def new_signing_key() -> tuple[str, str]:
    """A fresh key pair as JWK texts: the private one for `serve`, the public one for the applier."""
    key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": ALGORITHM}, private=True)
    return orjson.dumps(key.as_dict(private=True)).decode(), orjson.dumps(key.as_dict(private=False)).decode()


def load_signing_key(path: Path | None) -> OKPKey:
    """The private key of `proposals.signing_key_file`; raises `BadConfiguration`."""
    return load_private_key(path, "proposals.signing_key_file")


def load_verify_key(path: Path | None) -> OKPKey:
    """The public key of `proposals.verify_key_file`. A private one is refused: the applier must not be able to
    approve what it applies. Raises `BadConfiguration`."""
    key = load_key(path, "proposals.verify_key_file")
    if key.is_private:
        raise BadConfiguration(
            f"proposals.verify_key_file: {path} holds a private key; give the applier the public one"
        )
    return key


def load_private_key(path: Path | None, setting: str) -> OKPKey:
    """The Ed25519 key that can sign, of the file that a setting names; raises `BadConfiguration`."""
    key = load_key(path, setting)
    if not key.is_private:
        raise BadConfiguration(f"{setting}: {path} holds a public key, which can't sign")
    return key


def load_key(path: Path | None, setting: str) -> OKPKey:
    """The Ed25519 key in the file that a setting names, of either half; raises `BadConfiguration`."""
    if path is None:
        raise BadConfiguration(f"{setting} is not set: approvals can't be signed or checked without it")
    try:
        key = OKPKey.import_key(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise BadConfiguration(f"{setting}: {path} can't be read: {error.strerror}") from error
    except (JoseError, ValueError, TypeError) as error:
        raise BadConfiguration(f"{setting}: {path} is not a JWK of type OKP") from error
    if key.curve_name != "Ed25519":
        raise BadConfiguration(f"{setting}: {path} is not an Ed25519 key")
    return key


def _payload(approval: Approval) -> bytes:
    said = approval.model_dump(mode="json", exclude={"signature"})
    if approval.assertion is None:
        del said["assertion"]  # as it was written before there were passkeys
    return rfc8785.dumps(said)


def _not_signed(approval: Approval, why: str) -> Refused:
    return Refused(f"The approval by {approval.approver.name} is not validly signed.", detail=why)
