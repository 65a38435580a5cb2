"""Passkeys: a verdict signed on the approver's own device, over a challenge that anybody derives from the proposal."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, field_validator
from webauthn import base64url_to_bytes, verify_authentication_response
from webauthn.helpers import bytes_to_base64url, decode_credential_public_key, parse_client_data_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AuthenticationCredential, AuthenticatorAssertionResponse

from ..policies.errors import BadConfiguration, Refused
from ..tools.proposal import Approval, Assertion, Content, Verdict

STATEMENT = "arborgate-approval/1"
"""The `type` of what is signed, so that nothing else that a passkey may ever sign can pass as an approval."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Whom passkeys are for: the `origin` of the pages, and its host as `id` (Web Authentication, section 5.1.2)."""

    origin: str
    id: str

    @classmethod
    def of(cls, url: str) -> RelyingParty:
        """Raises `BadConfiguration` for a URL that no browser makes passkeys for."""
        host = urlsplit(url).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host:
                return cls(url, host)
        raise BadConfiguration(
            "http.public_url: passkeys need a host name, not an address.",
            field="http.public_url",
            hint="On one machine, http://localhost and the port will do.",
        )


class Passkey(BaseModel):
    """A passkey as it was enrolled: `id` and `public_key` (COSE, RFC 9052) are base64url texts, `enrolled_at` seconds
    since the epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    name: str
    public_key: str
    enrolled_at: float = 0.0

    @field_validator("public_key")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        try:
            decode_credential_public_key(base64url_to_bytes(value))
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            raise ValueError("should be a public key as a passkey gives it, in base64url") from error
        return value


def find_handle(person: str) -> bytes:
    """What authenticators know a person (by their key) as: always the same, and it tells them nothing."""
    return hashlib.sha256(f"arborgate-person/1\0{person}".encode()).digest()


def write_statement(content: Content, digest: str, verdict: Verdict, approver: str, until: float = 0.0) -> str:
    """What an approver signs, as canonical JSON (RFC 8785). The applier writes it by itself, from the proposal that it is
    about to apply. `approver` is the person's key; `until` the end of broken glass, 0 for other verdicts."""
    said: dict[str, str | float] = {
        "type": STATEMENT,
        "proposal": content.id,
        "digest": digest,
        "verdict": str(verdict),
        "approver": approver,
        "expires_at": until or content.expires_at,
    }
    return rfc8785.dumps(dict(said)).decode()


def check_assertion(approval: Approval, content: Content, digest: str, passkey: Passkey, party: RelyingParty) -> int:
    """The count of the passkey's uses that the authenticator says, 0 where it keeps none.

    Raises `Refused` unless `passkey` signed this very verdict on this digest, on a page of ours, its owner present and
    verified by the device. Counts are for the caller to compare."""
    assertion, approver = approval.assertion, approval.approver
    if assertion is None:
        raise Refused(f"The approval by {approver.name} is not signed with a passkey.")
    statement = write_statement(content, digest, approval.verdict, approver.key, approval.until)
    try:
        handle = base64url_to_bytes(assertion.user_handle)
        if handle and handle != find_handle(approver.key):
            raise _unsigned(approval, "the passkey is another person's")
        if parse_client_data_json(base64url_to_bytes(assertion.client_data)).cross_origin:
            raise _unsigned(approval, "it was signed inside another site's page")
        verified = verify_authentication_response(
            credential=_read_credential(assertion),
            expected_challenge=hashlib.sha256(statement.encode()).digest(),
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=base64url_to_bytes(passkey.public_key),
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError) as error:
        raise _unsigned(approval, f"{type(error).__name__}: {error}") from error
    return verified.new_sign_count


def _read_credential(assertion: Assertion) -> AuthenticationCredential:
    raw = base64url_to_bytes(assertion.credential)
    return AuthenticationCredential(
        id=bytes_to_base64url(raw),
        raw_id=raw,
        response=AuthenticatorAssertionResponse(
            client_data_json=base64url_to_bytes(assertion.client_data),
            authenticator_data=base64url_to_bytes(assertion.authenticator_data),
            signature=base64url_to_bytes(assertion.signature),
        ),
    )


def _unsigned(approval: Approval, why: str) -> Refused:
    return Refused(f"The passkey's signature on the approval by {approval.approver.name} does not hold.", detail=why)
