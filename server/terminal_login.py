"""The login of the terminal: a browser on this machine, or a code for another device; the token stays in one file."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx2
import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import BaseModel, ValidationError

from ..policies.errors import Denied, Invalid, Unavailable
from .web.login import Metadata
from .web.terminal import METADATA_PATH, Door

LOGIN_SECONDS = 300.0
"""How long a person may take."""

_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_EARLY = 30.0
_DONE = b"<!doctype html><html lang=en><title>Logged in</title><p>You are logged in. Close this page and go back."

Say = Callable[[str], None]
M = TypeVar("M", bound=BaseModel)


class Token(BaseModel):
    """An access token for the approvals, and when it ends (seconds since the epoch)."""

    access_token: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Where the token of one Arborgate is kept: readable by its owner alone, until it expires or `forget` is called."""

    path: Path

    @classmethod
    def of(cls, url: str, environ: Mapping[str, str] = os.environ) -> TokenFile:
        state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        return cls(Path(state) / "arborgate" / f"terminal-{name}.json")

    def read(self) -> Token | None:
        """The token, unless it has expired or others could have read it."""
        try:
            if self.path.stat().st_mode & 0o077:
                self.forget()
                return None
            token = Token.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None
        return token if token.expires_at - _EARLY > time.time() else None

    def write(self, token: Token) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(f".{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(token.model_dump_json().encode())
        fresh.replace(self.path)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


class TerminalLogin:
    """Logs a person in to one Arborgate, as its public client for terminals (RFC 8252, RFC 8628)."""

    def __init__(self, url: str, client: httpx2.Client, say: Say) -> None:
        self._client = client
        self._say = say
        self._door = self._find_door(url)
        issuer = check_url(self._door.issuer, "the issuer")
        self._metadata = self._parse(Metadata, self._get(f"{issuer}/.well-known/openid-configuration"))
        if self._metadata.issuer != self._door.issuer:
            raise Unavailable("The identity provider's metadata names another issuer.")

    def by_browser(self, *, again: bool = False) -> Token:
        """Opens a browser on this machine and waits for it to come back. `again`: the provider asks even so."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with _Catcher() as catcher:
            redirect_uri = f"http://127.0.0.1:{catcher.server_port}/callback"
            url = prepare_grant_uri(
                self._metadata.authorization_endpoint,
                self._door.client_id,
                "code",
                redirect_uri=redirect_uri,
                scope=self._door.scope,
                state=state,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
                resource=self._door.audience,
                prompt="login" if again else None,
            )
            self._say(f"Log in in your browser. If none opens, go to:\n  {url}")
            # A browser in the terminal would hold us up until it is closed, and we have to answer it before.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            query = catcher.wait(state)
        if query.get("iss", self._door.issuer) != self._door.issuer or "code" not in query:
            raise Denied("The login did not work.", detail=query.get("error", ""))
        return self._redeem(
            {
                "grant_type": "authorization_code",
                "code": query["code"],
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            }
        )

    def by_device(self) -> Token:
        """Shows a code to type on another device, and waits until that is done."""
        if not self._metadata.device_authorization_endpoint:
            raise Invalid("The identity provider has no login by code.", hint="Leave --device out.")
        asked = {"scope": self._door.scope, "resource": self._door.audience, "client_id": self._door.client_id}
        begun = self._post(self._metadata.device_authorization_endpoint, asked)
        if "device_code" not in begun:
            raise Denied("The identity provider refuses a login by code.", detail=str(begun.get("error")))
        self._say(f"Go to {begun['verification_uri']} and type the code {begun['user_code']}")
        every, ends = float(begun.get("interval", 5)), time.monotonic() + float(begun["expires_in"])
        while time.monotonic() < ends:
            time.sleep(every)
            form = {"grant_type": _DEVICE_GRANT, "device_code": begun["device_code"]}
            answer = self._post(self._metadata.token_endpoint, {**form, **self._about_us()})
            match answer.get("error"):
                case None:
                    return _token(answer)
                case "authorization_pending":
                    continue
                case "slow_down":
                    every += 5
                case error:
                    raise Denied("The login did not work.", detail=str(error))
        raise Denied("Nobody typed the code in time.")

    def _find_door(self, url: str) -> Door:
        return self._parse(Door, self._get(f"{check_url(url, '--url')}{METADATA_PATH}"))

    def _redeem(self, form: dict[str, str]) -> Token:
        answer = self._post(self._metadata.token_endpoint, {**form, **self._about_us()})
        if "error" in answer:
            raise Denied("The login did not work.", detail=str(answer["error"]))
        return _token(answer)

    def _about_us(self) -> dict[str, str]:
        return {"client_id": self._door.client_id, "resource": self._door.audience}

    def _get(self, url: str) -> dict[str, Any]:
        return self._send("GET", url)

    def _post(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        return self._send("POST", url, data=dict(form))

    def _send(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, url, **options)
            body = orjson.loads(answer.content)
        except (httpx2.HTTPError, orjson.JSONDecodeError) as error:
            raise Unavailable(f"{urlsplit(url).netloc} does not answer as it should.") from error
        if not isinstance(body, dict) or (method == "GET" and not answer.is_success):
            raise Unavailable(f"{urlsplit(url).netloc} does not answer as it should.")
        return body

    @staticmethod
    def _parse(model: type[M], body: Mapping[str, Any]) -> M:
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise Unavailable("The answer lacks what a login needs.") from error


class _Catcher(HTTPServer):
    """Waits on loopback for the one request with which the browser comes back (RFC 8252 section 7.3)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.query: dict[str, str] = {}

    def wait(self, state: str) -> dict[str, str]:
        """The parameters of the callback that belongs to `state`; raises `Denied` when none comes in time."""
        ends = time.monotonic() + LOGIN_SECONDS
        while (left := ends - time.monotonic()) > 0:
            self.timeout = left
            self.handle_request()
            if secrets.compare_digest(self.query.get("state", "").encode(), state.encode()):
                return self.query
        raise Denied("Nobody logged in in time.")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = parts.path == "/callback"
        if found and isinstance(self.server, _Catcher):
            self.server.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.end_headers()
        self.wfile.write(_DONE if found else b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Nothing: the request line holds the code."""


def check_url(url: str, what: str) -> str:
    """The URL without a slash at its end; raises `Invalid` for one that a token must not be sent to."""
    parts = urlsplit(url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise Invalid(f"{what}: {url!r} is neither https nor on loopback.", field=what)
    return url.rstrip("/")


def _token(answer: Mapping[str, Any]) -> Token:
    try:
        lasts = float(answer.get("expires_in", 300))
        return Token(access_token=answer["access_token"], expires_at=time.time() + lasts)
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable("The identity provider's answer holds no token.") from error
