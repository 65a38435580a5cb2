"""An authenticator in software: a passkey that signs whatever it is told to, also what no honest device would."""

import hashlib
import secrets
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, encode_cbor

from arborgate.server.passkeys import Passkey, RelyingParty, find_handle
from arborgate.tools.proposal import Assertion

PRESENT, VERIFIED, HOLDS_KEY = 0x01, 0x04, 0x40


class Authenticator:
    """One passkey (ES256) of one person at one relying party. It counts its uses; `count` can be set by hand."""

    def __init__(self, party: RelyingParty, owner: str, *, name: str = "Laptop") -> None:
        self.party = party
        self.owner = owner
        self.count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (value.to_bytes(32, "big") for value in (numbers.x, numbers.y))
        public = self._public = encode_cbor({1: 2, 3: -7, -1: 1, -2: x, -3: y})
        self.passkey = Passkey(
            id=bytes_to_base64url(secrets.token_bytes(16)), name=name, public_key=bytes_to_base64url(public)
        )

    def make(self, options: str, *, origin: str = "", flags: int = PRESENT | VERIFIED) -> str:
        """What a browser sends for `navigator.credentials.create` with these options (both JSON)."""
        raw = base64url_to_bytes(self.passkey.id)
        told = {"type": "webauthn.create", "challenge": orjson.loads(options)["challenge"]}
        client = orjson.dumps({**told, "origin": origin or self.party.origin, "crossOrigin": False})
        data = hashlib.sha256(self.party.id.encode()).digest() + bytes([flags | HOLDS_KEY]) + bytes(4)
        data += bytes(16) + len(raw).to_bytes(2, "big") + raw + self._public
        made = encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})
        response = {"clientDataJSON": bytes_to_base64url(client), "attestationObject": bytes_to_base64url(made)}
        sent = {"id": self.passkey.id, "rawId": self.passkey.id, "type": "public-key", "response": response}
        return orjson.dumps(sent).decode()

    def sign(
        self,
        statement: str,
        *,
        origin: str = "",
        rp_id: str = "",
        ceremony: str = "webauthn.get",
        flags: int = PRESENT | VERIFIED,
        owner: str | None = None,
        **client_data: Any,
    ) -> Assertion:
        """What a browser gets for `navigator.credentials.get` with SHA-256 of the statement as its challenge; the rest
        says what to lie about. `client_data` replaces or adds members of the client data."""
        self.count += 1
        data = (
            hashlib.sha256((rp_id or self.party.id).encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")
        )
        challenge = bytes_to_base64url(hashlib.sha256(statement.encode()).digest())
        said = {"type": ceremony, "challenge": challenge, "origin": origin or self.party.origin, "crossOrigin": False}
        client = orjson.dumps({**said, **client_data})
        signature = self._key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return Assertion(
            credential=self.passkey.id,
            authenticator_data=bytes_to_base64url(data),
            client_data=bytes_to_base64url(client),
            signature=bytes_to_base64url(signature),
            user_handle=bytes_to_base64url(find_handle(self.owner if owner is None else owner)),
        )


def send(assertion: Assertion) -> str:
    """The assertion as a browser's form has it."""
    response = {
        "authenticatorData": assertion.authenticator_data,
        "clientDataJSON": assertion.client_data,
        "signature": assertion.signature,
        "userHandle": assertion.user_handle,
    }
    sent = {"id": assertion.credential, "rawId": assertion.credential, "type": "public-key", "response": response}
    return orjson.dumps(sent).decode()
