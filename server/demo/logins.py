"""Who can log in at the sandbox issuer, through which clients, and what a login leaves until its tokens are fetched."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import ClientMixin, scope_to_list

ALGORITHM = "ES256"
SCOPES = ("openid", "profile", "offline_access")
AGENT_GRANTS = ("authorization_code", "refresh_token")

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Role(StrEnum):
    """Who one can be."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    APPROVER = "approver"
    RESPONDER = "responder"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Person:
    """A made-up person; `may` says in a few words what their role lets them do."""

    role: Role
    subject: str
    name: str
    groups: tuple[str, ...]
    may: str


PEOPLE: Mapping[str, Person] = {
    Role.VIEWER: Person(Role.VIEWER, "vera", "Vera Viewer", ("arborgate-viewers",), "looks at apps, and at Redis keys"),
    Role.DEVELOPER: Person(
        Role.DEVELOPER, "dev", "Dev Developer", ("arborgate-developers",), "also reads values, and proposes changes"
    ),
    Role.APPROVER: Person(
        Role.APPROVER, "ada", "Ada Approver", ("arborgate-approvers",), "decides on what others propose"
    ),
    Role.RESPONDER: Person(
        Role.RESPONDER, "rita", "Rita Responder", ("arborgate-responders",), "breaks the glass in an emergency"
    ),
    Role.AUDITOR: Person(
        Role.AUDITOR, "otto", "Otto Auditor", ("arborgate-auditors",), "reads the record and the policies, and reviews"
    ),
}


@dataclass(frozen=True, slots=True)
class Session:
    """One login: who, for which resource (RFC 8707), when (seconds since the epoch). What authlib calls the user.

    `holder` is the thumbprint of the key that its tokens are bound to (RFC 9449), "" for bearer tokens."""

    person: Person
    resource: str
    at: int
    holder: str = ""

    def get_user_id(self) -> str:
        return self.person.subject

    def claims(self) -> dict[str, Any]:
        """What tokens say of the person."""
        return {"sub": self.person.subject, "name": self.person.name, "groups": list(self.person.groups)}

    def confirmation(self) -> dict[str, Any]:
        """What access tokens say of the key that they are bound to."""
        return {"cnf": {"jkt": self.holder}} if self.holder else {}


@dataclass(frozen=True, slots=True)
class Client(ClientMixin):  # type: ignore[misc]  # authlib has no types
    """A registered client. `resource` is what its tokens are for when it names none."""

    client_id: str
    resource: str
    name: str = ""
    secret: str = ""
    redirect_uris: tuple[str, ...] = ()
    grants: tuple[str, ...] = AGENT_GRANTS
    id_token_signed_response_alg: str = ALGORITHM

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uris[0] if len(self.redirect_uris) == 1 else ""

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        return " ".join(each for each in scope_to_list(scope) or () if each in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Exactly a registered one; on loopback with any port (RFC 8252 section 7.3)."""
        return any(_matches(known, redirect_uri) for known in self.redirect_uris)

    def check_client_secret(self, client_secret: str) -> bool:
        return bool(self.secret) and hmac.compare_digest(self.secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002  # authlib's signature
        return (method == "none") != bool(self.secret)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grants


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code, or (with another lifetime) a refresh token."""

    code: str
    client_id: str
    session: Session
    scope: str
    redirect_uri: str = ""
    nonce: str = ""
    code_challenge: str = ""
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.session.at

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id


def _matches(known: str, asked: str) -> bool:
    if known == asked:
        return True
    one, other = urlsplit(known), urlsplit(asked)
    if one.scheme != "http" or one.hostname not in _LOOPBACK or one.hostname != other.hostname:
        return False
    return one._replace(netloc="") == other._replace(netloc="")
