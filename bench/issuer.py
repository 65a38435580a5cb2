"""An issuer of access tokens on loopback, for the server that is measured: its metadata, its keys, and tokens."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from joserfc import jwt
from joserfc.jwk import ECKey


class Issuer:
    """Serves discovery and JWKS on a thread for as long as it is entered."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", {"kid": "bench", "use": "sig", "alg": "ES256"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def token(self, audience: str, *, bound_to: str = "") -> str:
        """An access token (RFC 9068) of a developer, good for an hour; `bound_to` is the thumbprint of a key."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "ada",
            "name": "Ada",
            "aud": audience,
            "iat": now,
            "exp": now + 3600,
            "client_id": "bench",
            "groups": ["arborgate-developers"],
            **({"cnf": {"jkt": bound_to}} if bound_to else {}),
        }
        return jwt.encode({"alg": "ES256", "kid": "bench", "typ": "at+jwt"}, claims, self._key)

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the base class calls it so
                documents: dict[str, object] = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"},
                    "/jwks": {"keys": [issuer._key.as_dict(private=False)]},
                }
                found = documents.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_args: object) -> None:  # noqa: A002  # named so by the base class
                """Says nothing: standard error is for faults."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
