"""The settings of Git: which repositories are read, what in them belongs to which app, and how the applier delivers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAME = r"^[a-z0-9][a-z0-9.-]{0,62}$"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PATH = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*(?:/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)*")
_FIELD = r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?$"
Dotted = Annotated[str, Field(pattern=_FIELD)]


def is_safe_path(path: str) -> bool:
    """Whether this is the path of an ordinary file: relative, of plain characters, and nothing in it begins with a dot
    (`..`, `.git`, `.github/workflows`)."""
    return len(path) <= 400 and _PATH.fullmatch(path) is not None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _require_safe_url(value: str) -> str:
    parts = urlsplit(value)
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("should be https://host/path, without a user, a query or a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("should begin with https:// (http:// only on loopback)")
    return value


class GitRepository(_Part):
    """One repository, or with a slash at the end of its `url` all that lie below it, with credentials that can only
    read."""

    name: str = Field(pattern=NAME)
    url: str
    also: tuple[str, ...] = Field(
        default=(), description="other beginnings by which Argo CD knows it, such as git@host:group/"
    )
    username: str = "arborgate"
    password_file: Path | None = Field(default=None, description="password or token; read anew for each connection")
    ca_file: Path | None = Field(default=None, description="whom to trust beside the system's own authorities")

    _safe_url = field_validator("url")(_require_safe_url)


class GitValues(_Part):
    """Where the values of one app are written, outside of its Application: a file, and the dotted paths in it."""

    repository: str = Field(description="its name; for one below a repository's url: name/path")
    branch: str = ""
    file: str
    image: Dotted = Field(default="", description="the field that set_image writes: a tag, or a whole image")
    replicas: Mapping[str, Dotted] = Field(
        default_factory=dict, description="workload as Kind/name: the field that scale writes"
    )

    @field_validator("file")
    @classmethod
    def _file_is_a_safe_path(cls, value: str) -> str:
        if not is_safe_path(value):
            raise ValueError("should be a relative path of which no part begins with a dot")
        return value


class GitSettings(_Part):
    """Where changes can be made as commits. The applier needs the same, without the passwords."""

    repositories: tuple[GitRepository, ...] = ()
    values: Mapping[str, GitValues] = Field(default_factory=dict, description="app name or id: where its values are")
    always: tuple[str, ...] = Field(
        default=(), description="environments, app names or ids whose spec is changed by commits alone"
    )
    timeout: float = Field(default=20.0, gt=0, le=120, description="seconds that one exchange with a server may take")
    most_bytes: int = Field(default=33_554_432, ge=65_536, description="of one fetch")
    history: int = Field(default=200, ge=1, le=10_000, description="commits that are searched for our own")

    @field_validator("repositories")
    @classmethod
    def _names_are_unique(cls, values: tuple[GitRepository, ...]) -> tuple[GitRepository, ...]:
        if len({one.name for one in values}) != len(values):
            raise ValueError("two entries have the same name")
        return values


class Mode(StrEnum):
    """How a commit gets to its branch."""

    PUSH = "push"
    PULL_REQUEST = "pull_request"


class Forge(StrEnum):
    """Whose API opens pull requests (GitLab: merge requests)."""

    GITHUB = "github"
    GITLAB = "gitlab"


class GitDelivery(_Part):
    """How the applier writes to one of `git.repositories`, with its own credentials."""

    name: str = Field(pattern=NAME, description="of the entry in git.repositories")
    username: str = "arborgate"
    password_file: Path
    branches: tuple[str, ...] = Field(default=("*",), description="patterns; no other branch is ever written")
    paths: tuple[str, ...] = Field(default=("*",), description="patterns; no other file is ever written")
    mode: Mode = Mode.PUSH
    forge: Forge | None = Field(default=None, description="for pull_request")
    api_url: str = Field(
        default="", description="for pull_request: https://api.github.com, https://gitlab.example/api/v4"
    )
    token_file: Path | None = Field(default=None, description="for the API; default: password_file")
    merge_within: float = Field(
        default=3_600.0, gt=0, description="seconds until a pull request is given up and closed"
    )

    @field_validator("api_url")
    @classmethod
    def _api_url_is_safe(cls, value: str) -> str:
        return _require_safe_url(value).rstrip("/") if value else ""


class GitWriting(_Part):
    """What the applier commits with; read by `arborgate applier` alone."""

    repositories: tuple[GitDelivery, ...] = ()
    author_name: str = Field(default="Arborgate", pattern=r"^[^<>\n\x00]{1,100}$")
    author_email: str = Field(default="arborgate@localhost", pattern=r"^[^<>\s\x00]{1,200}$")
    signing_key_file: Path | None = Field(
        default=None, description="OpenSSH private key (Ed25519, no passphrase) that signs the commits"
    )
