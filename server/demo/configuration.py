"""The settings of the demo's `serve` and applier: two files, each with what its process may know and no more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..approvals import new_signing_key
from .listening import LOOPBACK
from .redis import EmbeddedRedis
from .running import DEMO_CLIENT, REGISTERED

PAGES, TERMINAL = "arborgate-pages", "arborgate-terminal"
"""The clients of the pages and of the terminal at the issuer."""

_PATH = ("dev", "staging", "production")


@dataclass(frozen=True, slots=True)
class Places:
    """The demo's folder, Arborgate's address and the issuer's."""

    folder: Path
    url: str
    issuer: str

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def applier_kubeconfig(self) -> Path:
        return self.folder / "applier.kubeconfig"

    @property
    def serve(self) -> Path:
        return self.folder / "serve.yaml"

    @property
    def applier(self) -> Path:
        return self.folder / "applier.yaml"

    @property
    def record(self) -> Path:
        return self.folder / "record"


def write_configuration(places: Places, port: int, redis: EmbeddedRedis) -> None:
    """Writes both files, and the keys and passwords that they point to."""
    private, public = new_signing_key()
    secrets = {"signing-key.json": private, "verify-key.json": public, **redis.passwords}
    for name in ("serve-record", "applier-record"):
        secrets[f"{name}.jwk"], secrets[f"{name}.pub.jwk"] = new_signing_key()
    for name, secret in secrets.items():
        _write(places.folder / name, secret)
    state = _describe_redis(places, redis, "arborgate")
    shared: dict[str, Any] = {
        "replica": "demo",
        "demo": True,
        "agents": {"trusted": [DEMO_CLIENT, f"{REGISTERED}*"]},
        "environments": [
            {"name": name, "strict": name == "production", "labels": {"environment": name}} for name in _PATH
        ],
        "promotion": {"path": list(_PATH), "shared_parameters": ["features.*"]},
        "clusters": [{"name": "sandbox", "kubeconfig": str(places.kubeconfig)}],
        "state": state,
    }
    serve = {
        "record": _describe_record(places, "serve"),
        "http": {"host": LOOPBACK, "port": port, "drain_timeout": 2},
        "identity": {
            "issuers": [{"issuer": places.issuer, "algorithms": ["ES256"]}],
            "pages": {
                "issuer": places.issuer,
                "client_id": PAGES,
                "terminal_client_id": TERMINAL,
            },
        },
        "redis": [{"name": "main", **_describe_redis(places, redis, "reader")}],
        "proposals": {"signing_key_file": str(places.folder / "signing-key.json")},
    }
    applier = {
        "record": _describe_record(places, "applier"),
        "proposals": {"verify_key_file": str(places.folder / "verify-key.json")},
        "applier": {
            "clusters": [{"name": "sandbox", "kubeconfig": str(places.applier_kubeconfig)}],
            "health_timeout": 30,
        },
    }
    _write(places.serve, yaml.safe_dump({**shared, **serve}))
    _write(places.applier, yaml.safe_dump({**shared, **applier}))


def _describe_record(places: Places, process: str) -> dict[str, str]:
    return {"dir": str(places.record), "signing_key_file": str(places.folder / f"{process}-record.jwk")}


def _describe_redis(places: Places, redis: EmbeddedRedis, user: str) -> dict[str, str]:
    return {"url": redis.url, "username": user, "password_file": str(places.folder / user)}


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
