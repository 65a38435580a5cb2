"""How the commands find a running demo: a file that only its owner can read names it and holds its secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ...policies.errors import Unavailable

DEFAULT_PORT = 8484
DEMO_CLIENT = "arborgate-demo"
ROLE_GRANT = "urn:arborgate:demo:role"
"""The client that the command line is at the issuer, and its grant: a token for a role, for whoever has the secret."""

REGISTERED = "agent-"
"""What the names of clients that register themselves begin with."""

ROLES = ("viewer", "developer", "approver")


class Running(BaseModel):
    """A running demo: where its MCP endpoint and its issuer are, and what proves to the issuer that we are at home."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    mcp: str
    issuer: str
    secret: str


def place_of(port: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file of the demo on that port is."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime else Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "arborgate" / f"demo-{port}.json"


def write_running(running: Running, path: Path) -> None:
    """Writes the file, replacing an old one whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{running.pid}")
    new.touch(mode=0o600)
    new.write_text(running.model_dump_json(), encoding="utf-8")
    new.replace(path)


def read_running(port: int, environ: Mapping[str, str] = os.environ) -> Running:
    """The demo on that port; raises `Unavailable` when there is none."""
    path = place_of(port, environ)
    try:
        running = Running.model_validate_json(path.read_bytes())
        os.kill(running.pid, 0)
    except (OSError, ValidationError) as error:
        others = sorted(each.stem.removeprefix("demo-") for each in path.parent.glob("demo-*.json"))
        hint = f"Found on: {', '.join(others)} (--port)." if others and others != [str(port)] else ""
        raise Unavailable(
            f"No demo is running on port {port}.", hint=hint or f"Start one: arborgate demo --port {port}"
        ) from error
    return running
