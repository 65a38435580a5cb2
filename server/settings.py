"""All settings, read once into one frozen object; an unknown key refuses to start and names the nearest known one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from ..policies.agents import Agents
from ..policies.calendar import Calendar
from ..policies.errors import BadConfiguration
from ..policies.surroundings import Surroundings
from ..tools.environments import EnvironmentRule
from ..tools.git.settings import GitSettings, GitWriting
from ..tools.promotion.ladder import PromotionSettings
from ..tools.tree import Owned
from .applier_settings import GateSettings
from .identity.settings import IdentitySettings, Member
from .masking import PersonalSettings
from .notifications.settings import NotifySettings
from .parent_settings import ControllerSettings, ParentSettings
from .redaction_settings import RedactionSettings
from .section import Seconds, Section
from .yaml_files import describe_mistake, load_plainly


class HttpSettings(Section):
    """Where `serve` listens and what it takes."""

    host: str = "127.0.0.1"
    port: int = Field(default=8484, ge=0, le=65535)
    public_url: str = Field(default="", description="how clients reach it, without a path; default http://host:port")
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Host headers besides public_url's")
    allowed_origins: tuple[str, ...] = Field(default=(), description="Origin headers besides public_url's")
    body_limit: int = Field(default=262_144, ge=1_024, description="bytes of one request")
    call_timeout: Seconds = 10.0
    drain_timeout: Seconds = 20.0
    max_in_flight: int = Field(default=256, ge=1, description="requests at once; a quarter of them beside /mcp")
    trusted_proxies: tuple[str, ...] = Field(default=(), description="addresses whose forwarded headers are believed")
    client_cert_header: str = Field(
        default="", description="in which trusted proxies pass on a client's certificate (RFC 9440: Client-Cert)"
    )

    @field_validator("public_url")
    @classmethod
    def _public_url_has_no_path(cls, value: str) -> str:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        if value and (not whole or parts.path not in ("", "/") or parts.query or parts.fragment):
            raise ValueError("should be https://host or https://host:port, with nothing behind it")
        return value

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")


class ClusterSettings(Section):
    """One cluster whose Argo CD objects are read. Without `kubeconfig`: in a pod the pod's own account, else the
    current kube context."""

    name: str = Field(default="in-cluster", pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    kubeconfig: Path | None = None
    context: str = ""
    namespaces: tuple[str, ...] = Field(default=(), description="where Applications live; empty: all namespaces")
    workloads: bool = Field(default=True, description="also watch Deployments, StatefulSets, DaemonSets, Rollouts")


class RedisSettings(Section):
    """One Redis: `redis://`, `rediss://`, `redis+sentinel://host:port,host:port/service/db`, `redis+cluster://host:port`."""

    url: str = "redis://127.0.0.1:6379/0"
    username: str = ""
    password_file: Path | None = None
    timeout: Seconds = 2.0


class StateSettings(RedisSettings):
    prefix: str = Field(default="{arborgate}:", description="with a hash tag, so that Redis Cluster keeps it together")
    replicas_acknowledge: int = Field(
        default=0,
        ge=0,
        le=8,
        description="replicas that must have a vote or a move before it counts; not with a Cluster",
    )


class RedisSourceSettings(RedisSettings):
    """A Redis whose state agents may read, with credentials that can only read."""

    name: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")


class RecordSettings(Section):
    dir: Path = Path("arborgate-record")
    stream_length: int = Field(default=1_000_000, ge=1_000, description="records kept searchable in Redis")
    signing_key_file: Path | None = Field(default=None, description="private JWK (Ed25519) that signs the log's head")
    sign_every: Seconds = Field(default=60.0, description="how often, while there is anything new")
    rotate_bytes: int | None = Field(
        default=None, ge=65_536, description="a file this long is sealed, and another begun"
    )
    rotate_after: Seconds | None = Field(default=None, ge=60, description="so is one this old")


class PolicySettings(Section):
    dir: Path | None = Field(default=None, description="your *.cedar and cases/*.yaml; default: the shipped ones")
    reload: bool = True


class PasskeyUse(StrEnum):
    """Who signs an approval with a passkey on the pages."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED_HIGH = "required_high"
    REQUIRED = "required"


class SessionApprovals(StrEnum):
    """Which approvals the applier believes by `serve`'s signature alone, where it has a file of approvers."""

    NEVER = "never"
    LOW_RISK = "low_risk"


class ProposalSettings(Section):
    expire_after: Seconds = 86_400.0
    rehearsal_wait: Seconds = Field(default=3.0, description="how long rollout_propose waits for the dry run")
    approvals_low: int = Field(default=1, ge=1)
    approvals_high: int = Field(default=1, ge=1)
    break_glass_lasts: Seconds = Field(
        default=900.0, le=3_600.0, description="after breaking the glass, how long until applying must have begun"
    )
    passkeys: PasskeyUse = Field(
        default=PasskeyUse.OFF, description="who signs with a passkey; optional: whoever has enrolled one"
    )
    signing_key_file: Path | None = Field(default=None, description="private JWK (Ed25519) that signs approvals")
    verify_key_file: Path | None = Field(default=None, description="public JWK that the applier checks them with")

    @field_validator("passkeys", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return PasskeyUse.OFF if value is False else value  # YAML 1.1 reads a bare `off` as false


class ApplierSettings(GateSettings):
    """The clusters with credentials that may write; read by `arborgate applier` alone."""

    clusters: tuple[ClusterSettings, ...] = ()
    git: GitWriting = GitWriting()
    approvers_file: Path | None = Field(
        default=None, description="from `arborgate approvers export`: an approval counts only by a passkey in it"
    )
    session_approvals: SessionApprovals = Field(
        default=SessionApprovals.NEVER, description="with approvers_file: which approvals count without a passkey"
    )
    health_timeout: Seconds = 300.0
    lease: Seconds = 30.0


class Settings(Section):
    """The whole configuration."""

    replica: str = Field(default="serve-1", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    http: HttpSettings = HttpSettings()
    identity: IdentitySettings = IdentitySettings()
    roles: Mapping[str, tuple[Member, ...]] = Field(
        default_factory=lambda: {
            "viewer": ("arborgate-viewers",),
            "developer": ("arborgate-developers",),
            "approver": ("arborgate-approvers",),
            "auditor": ("arborgate-auditors",),
            "responder": ("arborgate-responders",),
        },
        description="role: the groups that have it, everywhere or at one parent app and all below it",
    )
    agents: Agents = Agents()
    policies: PolicySettings = PolicySettings()
    clusters: tuple[ClusterSettings, ...] = (ClusterSettings(),)
    environments: tuple[EnvironmentRule, ...] = ()
    calendar: Calendar = Calendar()
    promotion: PromotionSettings = PromotionSettings()
    ownership: Mapping[str, Owned] = Field(default_factory=dict, description="app name or id: what it owns elsewhere")
    stale_after: Seconds = 60.0
    state: StateSettings = StateSettings()
    redis: tuple[RedisSourceSettings, ...] = ()
    git: GitSettings = GitSettings()
    record: RecordSettings = RecordSettings()
    personal: PersonalSettings = PersonalSettings()
    redaction: RedactionSettings = RedactionSettings()
    proposals: ProposalSettings = ProposalSettings()
    applier: ApplierSettings = ApplierSettings()
    parents: tuple[ParentSettings, ...] = Field(
        default=(), description="apps that may approve what is proposed for the apps below them"
    )
    controller: ControllerSettings | None = Field(default=None, description="for `arborgate parent` alone")
    notify: NotifySettings = NotifySettings()
    demo: bool = Field(default=False, description="set by `arborgate demo`: every page and banner says it is a demo")

    @property
    def surroundings(self) -> Surroundings:
        """What the policies are told of the settings."""
        return Surroundings(agents=self.agents, calendar=self.calendar)

    @field_validator("applier")
    @classmethod
    def _applier_names_what_is_there(cls, value: ApplierSettings, info: ValidationInfo) -> ApplierSettings:
        names = [[one.name for one in info.data.get(field, ())] for field in ("environments", "redis")]
        if strangers := value.find_strangers(*names):
            raise ValueError("; ".join(strangers))
        return value

    @field_validator("calendar")
    @classmethod
    def _calendar_names_environments(cls, value: Calendar, info: ValidationInfo) -> Calendar:
        if "environments" in info.data and (
            strangers := value.find_strangers([rule.name for rule in info.data["environments"]])
        ):
            raise ValueError("; ".join(strangers))
        return value

    @field_validator("notify")
    @classmethod
    def _notify_names_environments(cls, value: NotifySettings, info: ValidationInfo) -> NotifySettings:
        rules = info.data.get("environments")
        if rules is not None and (strangers := value.find_strangers([rule.name for rule in rules])):
            raise ValueError("; ".join(strangers))
        return value

    @field_validator("parents")
    @classmethod
    def _parents_are_named_once(cls, values: tuple[ParentSettings, ...]) -> tuple[ParentSettings, ...]:
        if len({value.app for value in values}) != len(values):
            raise ValueError("two entries are for the same app")
        return values

    @field_validator("clusters", "redis")
    @classmethod
    def _names_are_unique(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [value.name for value in values]
        if len(set(names)) != len(names):
            raise ValueError("two entries have the same name")
        return values


def read_settings(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings from a YAML file (`--config`, else `ARBORGATE_CONFIG`, else `arborgate.yaml` if it is there).

    Raises `BadConfiguration` naming the file, the key and what to do."""
    chosen = path or (Path(environ["ARBORGATE_CONFIG"]) if environ.get("ARBORGATE_CONFIG") else None)
    if chosen is None:
        chosen = Path("arborgate.yaml")
        if not chosen.exists():
            return Settings()
    try:
        raw = load_plainly(chosen.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise BadConfiguration(f"{chosen}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{chosen}: cannot be read: it is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{chosen}{describe_mistake(error)}") from None
    return parse_settings(raw, origin=str(chosen))


def parse_settings(raw: Any, *, origin: str = "settings") -> Settings:
    """The settings from plain data; raises `BadConfiguration` with one line per mistake."""
    if not isinstance(raw, dict):
        raise BadConfiguration(f"{origin}: the top level must be a mapping of settings")
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(dict(item), origin) for item in error.errors(include_url=False)]
        raise BadConfiguration("\n".join(lines)) from error


def _explain(item: Mapping[str, Any], origin: str) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{origin}: {where}: {item['msg']}"
    known = _fields_at(item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
    return f"{origin}: {where}: unknown setting{guess}"


def _fields_at(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] | None = Settings
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        info = model.model_fields.get(part)
        model = _model_in(info.annotation) if info else None
    return sorted(field.alias or name for name, field in model.model_fields.items()) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
