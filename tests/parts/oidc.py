"""A certified OpenID provider on loopback, with people to log in as and a login page that a browser can fill in."""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from .install import find_node, find_oidc_provider
from .process import PartFailed, Process, find_free_ports

Algorithm = Literal["RS256", "ES256"]
Json = dict[str, Any]

AUDIENCE = "http://127.0.0.1/mcp"
REDIRECT_URI = "http://127.0.0.1/callback"
AGENT = "copilot"
SERVICE = "parent-app"
ASSISTANT = "chat-assistant"
INTROSPECTOR = "arborgate"

ONE_FACTOR = "urn:example:acr:pwd"
TWO_FACTORS = "urn:example:acr:mfa"
"""How somebody logged in: by name, or with the box for a second factor ticked."""

SCOPES = ("arborgate:read", "arborgate:propose")
"""Scopes that a client may ask for beside those of OpenID Connect."""

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # a grant type, no password
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # a token type, no password


@dataclass(frozen=True)
class Person:
    """Somebody who can log in; the login name is the subject of their tokens."""

    name: str
    groups: tuple[str, ...]


PEOPLE: Mapping[str, Person] = {
    "vera": Person("Vera Viewer", ("arborgate-viewers",)),
    "dev": Person("Dev Developer", ("arborgate-developers",)),
    "april": Person("April Approver", ("arborgate-approvers",)),
    "abel": Person("Abel Approver", ("arborgate-approvers",)),
    "rita": Person("Rita Responder", ("arborgate-responders",)),
    "otto": Person("Otto Auditor", ("arborgate-auditors",)),
    "nora": Person("Nora Nobody", ()),
}


def describe_agent(client_id: str, *redirect_uris: str) -> Json:
    """A public client for a copilot or a terminal: code with PKCE, refresh, device flow; loopback redirects."""
    return {
        "client_id": client_id,
        "application_type": "native",
        "redirect_uris": list(redirect_uris) or [REDIRECT_URI],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token", _DEVICE_CODE],
        "token_endpoint_auth_method": "none",
    }


def describe_service(client_id: str, client_secret: str) -> Json:
    """A confidential client that gets tokens for itself by client credentials."""
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uris": [],
        "response_types": [],
        "grant_types": ["client_credentials"],
    }


def describe_assistant(client_id: str, client_secret: str, *redirect_uris: str) -> Json:
    """A chat assistant: people log in to it, and it gets tokens for them by exchange (RFC 8693), or for itself."""
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uris": list(redirect_uris) or [REDIRECT_URI],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "client_credentials", _TOKEN_EXCHANGE],
    }


def describe_pages(client_id: str, client_secret: str, *redirect_uris: str, logout_uri: str = "") -> Json:
    """A confidential web client: code with PKCE, the secret sent by HTTP basic authentication.

    With `logout_uri` it is told there when a session ends (back channel), and its ID tokens name the session (`sid`).
    After a logout it may send people to `/` of each redirect URI's origin."""
    told = {"backchannel_logout_uri": logout_uri, "backchannel_logout_session_required": True} if logout_uri else {}
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uris": list(redirect_uris),
        "post_logout_redirect_uris": sorted({urljoin(uri, "/") for uri in redirect_uris}),
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
        **told,
    }


def make_proof(key: ECKey, method: str, url: str, *, token: str = "", nonce: str = "") -> str:
    """A DPoP proof (RFC 9449 section 4.2), fit to be sent once."""
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    claims: Json = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(time.time())}
    if token:
        claims["ath"] = _digest(token)
    if nonce:
        claims["nonce"] = nonce
    return jwt.encode(header, claims, key, algorithms=["ES256"])


class OidcProvider:
    """One provider. Sessions, codes, refresh and opaque tokens and clients that registered themselves live in its
    memory: a restart forgets them, not the keys.

    Anybody may register a client, and an https client_id is looked up among `documents` (Client ID Metadata Documents).
    Tokens are bound to a key when one is given (DPoP)."""

    def __init__(
        self,
        folder: Path,
        *,
        people: Mapping[str, Person] = PEOPLE,
        clients: Sequence[Json] = (),
        audience: str = AUDIENCE,
        algorithm: Algorithm = "RS256",
        access_token_seconds: int = 3600,
        opaque: Sequence[str] = (),
        documents: Mapping[str, Json] | None = None,
        require_nonce: bool = False,
    ) -> None:
        """`audience` is the `aud` of tokens for which the client names no `resource`; tokens for the `opaque` ones are
        no JWTs, and have to be introspected. `documents`: client metadata by https URL. `require_nonce`: every DPoP
        proof for the token endpoint must hold a nonce of the provider's."""
        (port,) = find_free_ports(1)
        self.issuer = f"http://127.0.0.1:{port}"
        self.audience = audience
        self.service_secret = secrets.token_hex(16)
        self.assistant_secret = secrets.token_hex(16)
        self.introspector_secret = secrets.token_hex(16)
        self._folder = folder
        self._algorithm: Algorithm = algorithm
        self._config: Json = {
            "port": port,
            "audience": audience,
            "accessTokenSeconds": access_token_seconds,
            "cookieKeys": [secrets.token_hex(16)],
            "people": {login: {"name": person.name, "groups": list(person.groups)} for login, person in people.items()},
            "clients": [
                describe_agent(AGENT),
                describe_service(SERVICE, self.service_secret),
                describe_assistant(ASSISTANT, self.assistant_secret),
                describe_service(INTROSPECTOR, self.introspector_secret),
                *clients,
            ],
            "scopes": SCOPES,
            "acrValues": [ONE_FACTOR, TWO_FACTORS],
            "opaqueAudiences": list(opaque),
            "introspectors": [INTROSPECTOR],
            "documents": dict(documents or {}),
            "requireDpopNonce": require_nonce,
            "jwks": {"keys": _make_keys(algorithm)},
        }
        self._process: Process | None = None

    @property
    def metadata_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/jwks"

    def signing_key(self) -> RSAKey | ECKey:
        """The private key that access tokens are signed with now: for tests that forge variations."""
        return _import_key(self._config["jwks"]["keys"][0])

    def add_client(self, client: Json) -> None:
        """Registers a client, replacing one of the same id; restarts the provider."""
        others = [known for known in self._config["clients"] if known["client_id"] != client["client_id"]]
        self._config["clients"] = [*others, client]
        self.restart()

    def add_document(self, url: str, client: Json) -> None:
        """Publishes client metadata at an https URL, for this provider alone; restarts the provider."""
        self._config["documents"][url] = {"client_id": url, **client}
        self.restart()

    def issue_opaque(self, audience: str) -> None:
        """From now on, tokens for this resource are no JWTs; restarts the provider."""
        self._config["opaqueAudiences"].append(audience)
        self.restart()

    def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Signs with new keys from now on; the old ones stay in the key set unless told. Restarts the provider."""
        old = self._config["jwks"]["keys"] if keep_old else []
        self._config["jwks"] = {"keys": [*_make_keys(self._algorithm), *old]}
        self.restart()

    def log_in(
        self,
        person: str,
        *,
        client_id: str = AGENT,
        client_secret: str = "",
        resource: str | None = None,
        scope: str = "openid profile",
        redirect_uri: str = REDIRECT_URI,
        second_factor: bool = False,
        key: ECKey | None = None,
    ) -> Json:
        """The token endpoint's answer (access_token, id_token, refresh_token) for a client's code + PKCE.

        With `key` the tokens are bound to it."""
        verifier = secrets.token_urlsafe(32)
        target = {} if resource is None else {"resource": resource}
        asked = {
            "client_id": client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": scope,
            "code_challenge": _digest(verifier),
            "code_challenge_method": "S256",
            **target,
        }
        form = {"login": person, **({"second_factor": "on"} if second_factor else {})}
        with httpx2.Client(base_url=self.issuer, trust_env=False) as browser:
            page = browser.get("/auth", params=asked)
            answer = browser.post(page.headers["location"], data=form)
            while not (location := answer.headers.get("location", "")).startswith(redirect_uri):
                if not answer.is_redirect:
                    raise PartFailed(f"{person} could not log in: {answer.status_code} {answer.text[:500]}")
                answer = browser.get(location)
        returned = parse_qs(urlsplit(location).query)
        if "code" not in returned:
            raise PartFailed(f"{person} got no code: {returned}")
        code = {"code": returned["code"][0], "redirect_uri": redirect_uri, "code_verifier": verifier}
        return self._get_tokens(
            "authorization_code", {**code, **target}, client_id=client_id, client_secret=client_secret, key=key
        )

    def log_in_service(
        self,
        *,
        client_id: str = SERVICE,
        client_secret: str | None = None,
        resource: str | None = None,
        scope: str = "",
        key: ECKey | None = None,
    ) -> Json:
        """The token endpoint's answer (access_token) for an app acting for itself."""
        asked = {"resource": resource or self.audience, **({"scope": scope} if scope else {})}
        secret = client_secret or self.service_secret
        return self._get_tokens("client_credentials", asked, client_id=client_id, client_secret=secret, key=key)

    def refresh(self, refresh_token: str, *, client_id: str = AGENT, key: ECKey | None = None) -> Json:
        """The token endpoint's answer for a refresh token, which is good for this once."""
        return self._get_tokens("refresh_token", {"refresh_token": refresh_token}, client_id=client_id, key=key)

    def exchange(self, id_token: str, *, resource: str | None = None, scope: str = "openid") -> Json:
        """The token with which the assistant acts for the person of an ID token (RFC 8693)."""
        asked = {
            "subject_token": id_token,
            "subject_token_type": _ID_TOKEN,
            "resource": resource or self.audience,
            "scope": scope,
        }
        return self._get_tokens(_TOKEN_EXCHANGE, asked, client_id=ASSISTANT, client_secret=self.assistant_secret)

    def introspect(self, token: str) -> Json:
        """What the provider says of an opaque token (RFC 7662)."""
        credentials = (INTROSPECTOR, self.introspector_secret)
        url = f"{self.issuer}/token/introspection"
        return _read_tokens(httpx2.post(url, data={"token": token}, auth=credentials, trust_env=False))

    def revoke(self, token: str, *, client_id: str = AGENT) -> None:
        """Takes an opaque or refresh token back (RFC 7009)."""
        asked = {"token": token, "client_id": client_id}
        httpx2.post(f"{self.issuer}/token/revocation", data=asked, trust_env=False).raise_for_status()

    def log_out(self, cookies: httpx2.Cookies) -> None:
        """Ends the session of a browser with these cookies on the provider's own page, which tells the clients first.

        A client that this thread itself serves can't be told: run it in another."""
        with httpx2.Client(base_url=self.issuer, cookies=cookies, trust_env=False) as browser:
            page = browser.get("/session/end")
            found = re.search(r'name="xsrf" value="([^"]+)"', page.text)
            if found is None:
                raise PartFailed(f"no logout page: {page.status_code} {page.text[:500]}")
            browser.post("/session/end/confirm", data={"xsrf": found[1], "logout": "yes"})

    def _get_tokens(
        self, grant: str, asked: Json, *, client_id: str, client_secret: str = "", key: ECKey | None = None
    ) -> Json:
        form = {"grant_type": grant, **({} if client_secret else {"client_id": client_id}), **asked}
        url = f"{self.issuer}/token"
        credentials = (client_id, client_secret) if client_secret else None
        with httpx2.Client(auth=credentials, trust_env=False) as client:
            if key is None:
                return _read_tokens(client.post(url, data=form))
            answer = client.post(url, data=form, headers={"DPoP": make_proof(key, "POST", url)})
            if "use_dpop_nonce" in answer.text:
                proof = make_proof(key, "POST", url, nonce=answer.headers["DPoP-Nonce"])
                answer = client.post(url, data=form, headers={"DPoP": proof})
            return _read_tokens(answer)

    def start(self) -> None:
        """Starts the provider, or starts it again; returns when it answers."""
        if self._process is not None and self._process.running:
            return
        place = find_oidc_provider()
        config = self._folder / "provider.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._config))
        self._process = Process("oidc-provider", (find_node(), place / "server.mjs", config), self._folder)
        self._process.wait_ready(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Connections stay open and nothing answers, until `resume`."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        if self._process is not None:
            self._process.resume()

    def recover(self) -> None:
        """Ends every fault above."""
        if self._process is not None and self._process.running:
            self._process.resume()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            return httpx2.get(self.metadata_url, trust_env=False).is_success
        except httpx2.TransportError:
            return False


def _make_keys(signer: Algorithm) -> list[dict[str, Any]]:
    """One key of each kind, as private JWKs; the one that signs access tokens comes first."""
    rsa = RSAKey.generate_key(2048, {"alg": "RS256", "use": "sig"}, auto_kid=True).as_dict(private=True)
    ec = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True).as_dict(private=True)
    return [dict(rsa), dict(ec)] if signer == "RS256" else [dict(ec), dict(rsa)]


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _import_key(jwk: dict[str, Any]) -> RSAKey | ECKey:
    return RSAKey.import_key(jwk) if jwk["kty"] == "RSA" else ECKey.import_key(jwk)


def _read_tokens(answer: httpx2.Response) -> Json:
    if answer.is_error:
        raise PartFailed(f"the provider refused: {answer.status_code} {answer.text}")
    tokens: Json = answer.json()
    return tokens
