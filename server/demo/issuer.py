"""The sandbox issuer: an OpenID provider on authlib where anybody may be anybody. For the demo, on loopback, only.

It speaks OAuth 2.1 as MCP clients expect it: authorization code with PKCE, dynamic registration (RFC 7591), resource
indicators (RFC 8707), the device flow (RFC 8628), and signs access tokens (RFC 9068) and ID tokens with ES256.
"""

# The stubs of authlib that pyright brings describe an older version of it.
# pyright: reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportReturnType=false

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidRequestError,
    JsonRequest,
    OAuth2Error,
    OAuth2Payload,
    OAuth2Request,
    TokenEndpointMixin,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, BaseGrant, RefreshTokenGrant
from authlib.oauth2.rfc7591 import ClientRegistrationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    DeviceCredentialDict,
)
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core.grants import OpenIDCode
from joserfc.jwk import ECKey, KeySet
from starlette.responses import JSONResponse, Response

from .configuration import PAGES, TERMINAL
from .logins import AGENT_GRANTS, ALGORITHM, PEOPLE, SCOPES, Client, Code, Session
from .running import DEMO_CLIENT, REGISTERED, ROLE_GRANT

TOKEN_SECONDS = 600
PROOF_ALGORITHMS: Final = ("ES256", "Ed25519")
METHODS = ("none", "client_secret_basic", "client_secret_post")

_CODE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: the form is read already, since authlib does not wait."""

    method: str
    url: str
    headers: Mapping[str, str]
    args: Mapping[str, str]
    form: Mapping[str, str]
    json: Mapping[str, Any] = field(default_factory=dict)
    holder: str = ""
    """The thumbprint of the key that a DPoP proof came with (RFC 9449 section 5)."""


class InvalidTarget(OAuth2Error):  # type: ignore[misc]  # authlib has no types
    """RFC 8707 section 2: the resource is not one of ours, or not the one that was logged in for."""

    error = "invalid_target"


class Issuer(AuthorizationServer):  # type: ignore[misc]  # authlib has no types
    """The provider: its clients, codes and keys live in memory and end with it.

    `public_url` is Arborgate's, whose `/mcp` and `/approvals` are the resources that tokens can be for. `secret` is
    what the demo's own command line proves itself with."""

    def __init__(self, issuer: str, public_url: str, secret: str) -> None:
        super().__init__(scopes_supported=None)
        self.issuer = issuer
        self.mcp = f"{public_url}/mcp"
        self.resources = (self.mcp, f"{public_url}/approvals")
        key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
        self.keys = KeySet([key])
        self.clients = {
            client.client_id: client
            for client in (
                # Not for our resources: what a browser logs in with must not open the door of agents.
                Client(
                    PAGES, f"{issuer}/userinfo", "The approval pages", redirect_uris=(f"{public_url}/login/callback",)
                ),
                Client(
                    TERMINAL,
                    self.resources[1],
                    "The terminal",
                    redirect_uris=("http://127.0.0.1/callback", "http://localhost/callback"),
                    grants=(*AGENT_GRANTS, DEVICE_CODE_GRANT_TYPE),
                ),
                Client(DEMO_CLIENT, self.mcp, "arborgate demo", secret=secret, grants=(ROLE_GRANT,)),
            )
        }
        self.codes: dict[str, Code] = {}
        self.refreshes: dict[str, Code] = {}
        self.devices: dict[str, DeviceCredentialDict] = {}
        self.granted: dict[str, Session] = {}
        self.register_token_generator("default", _Tokens(self))
        proof = [CodeChallenge(required=True), _IdTokens(self), _ForResource()]
        self.register_grant(_CodeGrant, proof)
        self.register_grant(_RefreshGrant)
        self.register_grant(_DeviceGrant)
        self.register_grant(_RoleGrant)
        self.register_endpoint(_Registration)
        self.register_endpoint(_Devices)

    def metadata(self) -> dict[str, Any]:
        """RFC 8414 and OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "device_authorization_endpoint": f"{self.issuer}/device_authorization",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [*AGENT_GRANTS, DEVICE_CODE_GRANT_TYPE],
            "token_endpoint_auth_methods_supported": list(METHODS),
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "authorization_response_iss_parameter_supported": True,
            "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        }

    def check_resource(self, resource: str | None, client: Client) -> str:
        """The audience of the tokens; raises `InvalidTarget`."""
        if resource and resource not in self.resources:
            raise InvalidTarget(f"The resources here are {' and '.join(self.resources)}.")
        return resource or client.resource

    # What authlib asks of a server.

    def query_client(self, client_id: str) -> Client | None:
        return self.clients.get(client_id)

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        if refresh := token.get("refresh_token"):
            self.refreshes[refresh] = Code(refresh, request.client.client_id, request.user, token.get("scope") or "")

    def create_oauth2_request(self, request: Received | OAuth2Request) -> OAuth2Request:
        return _Request(request) if isinstance(request, Received) else request

    def create_json_request(self, request: Received) -> JsonRequest:
        made = JsonRequest(request.method, request.url, request.headers)
        made.payload = _Payload(request.json)
        return made

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        sent = dict(headers)
        if "Location" in sent:
            sent["Location"] = add_params_to_uri(sent["Location"], [("iss", self.issuer)])  # RFC 9207
        if isinstance(body, Mapping):
            return JSONResponse(dict(body), status, headers={**sent, "Cache-Control": "no-store"})
        return Response(body, status, headers=sent)

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""


class _Payload(OAuth2Payload):  # type: ignore[misc]  # authlib has no types
    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    @property
    def data(self) -> dict[str, Any]:
        return self._data

    @property
    def datalist(self) -> dict[str, list[Any]]:
        return {key: [value] for key, value in self._data.items()}


class _Request(OAuth2Request):  # type: ignore[misc]  # authlib has no types
    def __init__(self, received: Received) -> None:
        # authlib insists on https. This issuer is on loopback, where OAuth for native apps allows http (RFC 8252).
        super().__init__(received.method, urlsplit(received.url)._replace(scheme="https").geturl())
        self.headers = dict(received.headers)
        self.payload = _Payload({**received.args, **received.form})
        self.holder = received.holder
        self._received = received

    @property
    def args(self) -> Mapping[str, str]:
        return self._received.args

    @property
    def form(self) -> Mapping[str, str]:
        return self._received.form


class _CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]  # authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        asked = request.payload.data
        self.server.codes[code] = Code(
            code,
            request.client.client_id,
            request.user,
            request.scope,
            request.payload.redirect_uri or "",
            asked.get("nonce", ""),
            asked["code_challenge"],
            asked.get("code_challenge_method", "plain"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found: Code | None = self.server.codes.get(code)
        known = found is not None and found.check_client(client) and time.time() - found.session.at < _CODE_SECONDS
        return found if known else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        self.server.codes.pop(authorization_code.code, None)

    def authenticate_user(self, authorization_code: Code) -> Session:
        return replace(authorization_code.session, holder=self.request.holder)


class _RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]  # authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Code | None:
        found: Code | None = self.server.refreshes.get(refresh_token)
        if found and found.session.holder != self.request.holder:
            return None  # a public client's refresh token is bound like its access tokens (RFC 9449 section 5)
        return found

    def authenticate_user(self, refresh_token: Code) -> Session:
        return refresh_token.session

    def revoke_old_credential(self, refresh_token: Code) -> None:
        self.server.refreshes.pop(refresh_token.code, None)


class _DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]  # authlib has no types
    def query_device_credential(self, device_code: str) -> DeviceCredentialDict | None:
        return self.server.devices.get(device_code)

    def query_user_grant(self, user_code: str) -> tuple[Session, bool] | None:
        session = self.server.granted.pop(user_code, None)
        return None if session is None else (replace(session, holder=self.request.holder), True)

    def should_slow_down(self, credential: DeviceCredentialDict) -> bool:  # noqa: ARG002  # authlib's signature
        return False


class _RoleGrant(BaseGrant, TokenEndpointMixin):  # type: ignore[misc]  # authlib has no types
    """For `/mcp` alone: what a command line can get must never approve."""

    GRANT_TYPE = ROLE_GRANT
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

    def validate_token_request(self) -> None:
        self.request.client = self.authenticate_token_endpoint_client()
        person = PEOPLE.get(self.request.form.get("role", ""))
        if person is None:
            raise InvalidRequestError(f"The roles are {', '.join(PEOPLE)}.")
        self.request.user = Session(person, self.server.mcp, int(time.time()))

    def create_token_response(self) -> tuple[int, Mapping[str, Any], list[tuple[str, str]]]:
        token = self.generate_token(user=self.request.user, scope="profile", include_refresh_token=False)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class _ForResource:
    """RFC 8707 for authorization codes: the resource is settled at login, and can't be another one later."""

    def __call__(self, grant: BaseGrant) -> None:
        grant.register_hook("after_validate_authorization_request_payload", self._check_asked)
        grant.register_hook("after_validate_token_request", self._check_redeemed)

    def _check_asked(self, grant: BaseGrant, _redirect_uri: str) -> None:
        asked = grant.request.payload.data
        if not asked.get("code_challenge"):
            raise InvalidRequestError("PKCE is required: code_challenge is missing.")
        if asked.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE is required with code_challenge_method S256.")
        grant.server.check_resource(asked.get("resource"), grant.server.query_client(asked["client_id"]))

    def _check_redeemed(self, grant: BaseGrant, _result: object) -> None:
        again = grant.request.form.get("resource")
        if again and again != grant.request.authorization_code.session.resource:
            raise InvalidTarget("The login was for another resource.")


class _IdTokens(OpenIDCode):  # type: ignore[misc]  # authlib has no types
    def __init__(self, issuer: Issuer) -> None:
        super().__init__(require_nonce=False)
        self._issuer = issuer

    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:  # noqa: ARG002  # authlib's signature
        return any(code.nonce == nonce for code in self._issuer.codes.values())

    def resolve_client_private_key(self, client: Client) -> KeySet:  # noqa: ARG002  # authlib's signature
        return self._issuer.keys

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        return {"iss": self._issuer.issuer, "aud": client.client_id, "exp": int(time.time()) + TOKEN_SECONDS}

    def generate_user_info(self, user: Session, scope: str) -> dict[str, Any]:  # noqa: ARG002  # authlib's signature
        return user.claims()


class _Tokens(JWTBearerTokenGenerator):  # type: ignore[misc]  # authlib has no types
    def __init__(self, issuer: Issuer) -> None:
        super().__init__(
            issuer.issuer,
            alg=ALGORITHM,
            refresh_token_generator=lambda **_: secrets.token_urlsafe(32),
            expires_generator=lambda *_: TOKEN_SECONDS,
        )
        self._keys = issuer.keys

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        token: dict[str, Any] = super().__call__(*args, **kwargs)
        return {**token, "token_type": "DPoP"} if kwargs["user"].holder else token

    def get_jwks(self) -> KeySet:
        return self._keys

    def get_audiences(self, client: Client, user: Session, scope: str) -> str:  # noqa: ARG002  # authlib's signature
        return user.resource

    def get_auth_time(self, user: Session) -> int:
        return user.at

    def get_extra_claims(self, client: Client, grant_type: str, user: Session, scope: str) -> dict[str, Any]:  # noqa: ARG002
        return {**user.claims(), **user.confirmation()}


class _Registration(ClientRegistrationEndpoint):  # type: ignore[misc]  # authlib has no types
    """Anybody may register a client: on loopback, for as long as the demo runs."""

    def authenticate_token(self, request: JsonRequest) -> bool:  # noqa: ARG002  # authlib's signature
        return True

    def get_server_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self.server.metadata()
        return metadata

    def generate_client_info(self, request: JsonRequest) -> dict[str, Any]:
        public = request.payload.data.get("token_endpoint_auth_method") == "none"
        secret = {} if public else {"client_secret": secrets.token_urlsafe(32), "client_secret_expires_at": 0}
        return {"client_id": f"{REGISTERED}{secrets.token_hex(8)}", "client_id_issued_at": int(time.time()), **secret}

    def save_client(self, info: Mapping[str, Any], metadata: Mapping[str, Any], request: JsonRequest) -> Client:  # noqa: ARG002
        client = Client(
            info["client_id"],
            self.server.mcp,
            metadata.get("client_name", "")[:80],
            info.get("client_secret", ""),
            tuple(metadata.get("redirect_uris", ())),
        )
        self.server.clients[client.client_id] = client
        return client


class _Devices(DeviceAuthorizationEndpoint):  # type: ignore[misc]  # authlib has no types
    INTERVAL = 1

    def get_verification_uri(self) -> str:
        return f"{self.server.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: Mapping[str, Any]) -> None:
        self.server.devices[data["device_code"]] = DeviceCredentialDict(
            client_id=client_id, scope=scope or "", expires_at=time.time() + data["expires_in"], **_codes(data)
        )


def _codes(data: Mapping[str, Any]) -> dict[str, str]:
    return {"device_code": data["device_code"], "user_code": data["user_code"]}
