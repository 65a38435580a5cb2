"""A certified OpenID provider on loopback, with people to log in as and a login page that a browser can fill in."""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import httpx2
from joserfc.jwk import ECKey, RSAKey

from .install import find_node, find_oidc_provider
from .process import PartFailed, Process, find_free_ports

Algorithm = Literal["RS256", "ES256"]
Json = dict[str, Any]

AUDIENCE = "http://127.0.0.1/mcp"
REDIRECT_URI = "http://127.0.0.1/callback"
AGENT = "copilot"
SERVICE = "parent-app"


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
    "nora": Person("Nora Nobody", ()),
}


def describe_agent(client_id: str, *redirect_uris: str) -> Json:
    """A public client for a copilot or a terminal: code with PKCE, refresh, device flow; loopback redirects."""
    return {
        "client_id": client_id,
        "application_type": "native",
        "redirect_uris": list(redirect_uris) or [REDIRECT_URI],
        "response_types": ["code"],
        "grant_types": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
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


def describe_pages(client_id: str, client_secret: str, *redirect_uris: str) -> Json:
    """A confidential web client: code with PKCE, the secret sent by HTTP basic authentication."""
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uris": list(redirect_uris),
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
    }


class OidcProvider:
    """One provider. Sessions, codes and refresh tokens live in its memory: a restart forgets them, not the keys."""

    def __init__(
        self,
        folder: Path,
        *,
        people: Mapping[str, Person] = PEOPLE,
        clients: Sequence[Json] = (),
        audience: str = AUDIENCE,
        algorithm: Algorithm = "RS256",
        access_token_seconds: int = 3600,
    ) -> None:
        """`audience` is the `aud` of tokens for which the client names no `resource`."""
        (port,) = find_free_ports(1)
        self.issuer = f"http://127.0.0.1:{port}"
        self.audience = audience
        self.service_secret = secrets.token_hex(16)
        self._folder = folder
        self._algorithm: Algorithm = algorithm
        self._config: Json = {
            "port": port,
            "audience": audience,
            "accessTokenSeconds": access_token_seconds,
            "cookieKeys": [secrets.token_hex(16)],
            "people": {login: {"name": person.name, "groups": list(person.groups)} for login, person in people.items()},
            "clients": [describe_agent(AGENT), describe_service(SERVICE, self.service_secret), *clients],
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
        resource: str | None = None,
        scope: str = "openid profile",
        redirect_uri: str = REDIRECT_URI,
    ) -> Json:
        """The token endpoint's answer (access_token, id_token, refresh_token) for a public client's code + PKCE."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        target = {} if resource is None else {"resource": resource}
        asked = {
            "client_id": client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": scope,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
            **target,
        }
        with httpx2.Client(base_url=self.issuer, trust_env=False) as browser:
            page = browser.get("/auth", params=asked)
            answer = browser.post(page.headers["location"], data={"login": person})
            while not (location := answer.headers.get("location", "")).startswith(redirect_uri):
                if not answer.is_redirect:
                    raise PartFailed(f"{person} could not log in: {answer.status_code} {answer.text[:500]}")
                answer = browser.get(location)
            returned = parse_qs(urlsplit(location).query)
            if "code" not in returned:
                raise PartFailed(f"{person} got no code: {returned}")
            exchange = {
                "grant_type": "authorization_code",
                "client_id": client_id,
                "code": returned["code"][0],
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
                **target,
            }
            return _read_tokens(browser.post("/token", data=exchange))

    def log_in_service(
        self, *, client_id: str = SERVICE, client_secret: str | None = None, resource: str | None = None
    ) -> Json:
        """The token endpoint's answer (access_token) for an app acting for itself."""
        asked = {"grant_type": "client_credentials", "resource": resource or self.audience}
        credentials = (client_id, client_secret or self.service_secret)
        with httpx2.Client(base_url=self.issuer, trust_env=False) as client:
            return _read_tokens(client.post("/token", data=asked, auth=credentials))

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


def _import_key(jwk: dict[str, Any]) -> RSAKey | ECKey:
    return RSAKey.import_key(jwk) if jwk["kty"] == "RSA" else ECKey.import_key(jwk)


def _read_tokens(answer: httpx2.Response) -> Json:
    if answer.is_error:
        raise PartFailed(f"the token endpoint refused: {answer.text}")
    tokens: Json = answer.json()
    return tokens
