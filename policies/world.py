"""A small world to try policies on: people, environments, apps and what is theirs, declared in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .agents import Agents
from .calendar import UNASSIGNED, Calendar
from .model import INSTALLATION, Attribute, Binding, Caller, Channel, Resource, ResourceType
from .surroundings import Surroundings

ISSUER = "https://issuer.example"
"""The issuer of everybody who is not named with one (`issuer#subject`)."""


class Closed(BaseModel):
    """A declaration: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(Closed):
    strict: bool = False


class App(Closed):
    """An app, in an environment (without one in `unassigned`, which is strict) and perhaps under a parent app."""

    environment: str | None = None
    parent: str | None = None
    project: str = "default"
    labels: Mapping[str, str] = Field(default_factory=dict)


class Workload(Closed):
    app: str
    kind: str = "Deployment"


class Keyspace(Closed):
    app: str


class Proposal(Closed):
    """A proposal on one app. `requester` and `breaker` (of the glass) are people."""

    app: str
    requester: str
    risk: str = "low"
    factors: tuple[str, ...] = ()
    breaker: str = ""


_BOUND_BY_CHANNEL = {
    Channel.APPLIER: Binding.LOCAL,
    Channel.PAGES: Binding.SESSION,
    Channel.PARENT: Binding.LOCAL,
    Channel.STDIO: Binding.LOCAL,
}


class Person(Closed):
    """Who asks, as what, through which agent and door. `grants` are roles at apps, each with the ids of the apps;
    `binding` follows from the door where it is not given; `login_age` is in seconds, null where nobody knows."""

    roles: frozenset[str] = frozenset()
    grants: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    groups: frozenset[str] = frozenset()
    agent: str = "copilot"
    actors: tuple[str, ...] = ()
    channel: Channel = Channel.MCP
    itself: bool = False
    binding: Binding | None = None
    login_age: int | None = Field(default=0, ge=0)
    acr: str = ""

    def caller(self, name: str, now: int) -> Caller:
        """The person as a caller at the moment `now`, in seconds since the epoch."""
        issuer, _, subject = person_key(name).rpartition("#")
        return Caller(
            issuer=issuer,
            subject=subject,
            name=name,
            groups=self.groups,
            roles=self.roles,
            agent=self.agent,
            actors=self.actors,
            channel=self.channel,
            authenticated_at=0 if self.login_age is None else now - self.login_age,
            itself=self.itself,
            binding=self.binding or _BOUND_BY_CHANNEL.get(self.channel, Binding.BEARER),
            acr=self.acr,
            grants=frozenset((role, app) for role, apps in self.grants.items() for app in apps),
        )


def person_key(name: str) -> str:
    """The key of a person: the name itself where it has an issuer, else with that of everybody here."""
    return name if "#" in name else f"{ISSUER}#{name}"


class Misplaced(Exception):
    """A part of a world that leans on one that is not there; `path` is where it stands."""

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path


class World(Closed):
    """Everything by its id: apps are `cluster/namespace/name`, keyspaces `source:prefix`. `agents` and `calendar` are
    those of the settings; where they are not declared, every agent that has a name is trusted, and time is free."""

    agents: Agents = Agents(trusted=("*",))
    calendar: Calendar = Calendar()

    environments: Mapping[str, Environment] = Field(default_factory=dict)
    apps: Mapping[Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+/[^/]+$")], App] = Field(default_factory=dict)
    workloads: Mapping[str, Workload] = Field(default_factory=dict)
    keyspaces: Mapping[Annotated[str, StringConstraints(pattern=r"^[^:]+:.+$")], Keyspace] = Field(default_factory=dict)
    proposals: Mapping[str, Proposal] = Field(default_factory=dict)

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(agents=self.agents, calendar=self.calendar)

    def resources(self) -> dict[str, Resource]:
        """The resources by `TYPE::id`, made as the program makes them of the real world; raises `Misplaced`."""
        for problem in self.calendar.find_strangers(self.environments):
            raise Misplaced(("calendar",), problem)
        return _Making(self).made


class _Making:
    def __init__(self, world: World) -> None:
        self._world = world
        self._under_way: set[str] = set()
        self.made: dict[str, Resource] = {INSTALLATION.uid: INSTALLATION}
        for name, environment in {**world.environments, UNASSIGNED: Environment(strict=True)}.items():
            self._add(ResourceType.ENVIRONMENT, name, (INSTALLATION,), name=name, strict=environment.strict)
        for name in world.apps:
            self._app(name, ("apps", name))
        for name, workload in world.workloads.items():
            app = self._app(workload.app, ("workloads", name, "app"))
            short, namespace = name.rpartition("/")[2], workload.app.split("/")[1]
            self._add(ResourceType.WORKLOAD, name, (app,), kind=workload.kind, name=short, namespace=namespace)
        for name, keyspace in world.keyspaces.items():
            app = self._app(keyspace.app, ("keyspaces", name, "app"))
            source, _, prefix = name.partition(":")
            self._add(ResourceType.KEYSPACE, name, (app,), prefix=prefix, source=source)
        for name, proposal in world.proposals.items():
            app = self._app(proposal.app, ("proposals", name, "app"))
            requester = person_key(proposal.requester)
            breaker = person_key(proposal.breaker) if proposal.breaker else ""
            factors = tuple(sorted(proposal.factors))
            self._add(
                ResourceType.PROPOSAL,
                name,
                (app,),
                breaker=breaker,
                factors=factors,
                requester=requester,
                risk=proposal.risk,
            )

    def _app(self, name: str, path: tuple[str, ...]) -> Resource:
        if found := self.made.get(f"{ResourceType.APP}::{name}"):
            return found
        app = self._world.apps.get(name)
        if app is None:
            raise Misplaced(path, f"{name!r} is not among the apps")
        if name in self._under_way:
            raise Misplaced(path, f"{name!r} is above itself")
        self._under_way.add(name)
        parents: list[Resource] = []
        if app.parent is not None:
            parents.append(self._app(app.parent, ("apps", name, "parent")))
        environment = self.made.get(f"{ResourceType.ENVIRONMENT}::{app.environment or UNASSIGNED}")
        if environment is None:
            raise Misplaced(("apps", name, "environment"), f"{app.environment!r} is not among the environments")
        parents.append(environment)
        cluster, namespace, short = name.split("/")
        return self._add(
            ResourceType.APP,
            name,
            tuple(parents),
            cluster=cluster,
            environment=app.environment or UNASSIGNED,
            labels=tuple(sorted(f"{key}={value}" for key, value in app.labels.items())),
            name=short,
            namespace=namespace,
            project=app.project,
        )

    def _add(
        self, kind: ResourceType, name: str, parents: tuple[Resource, ...], /, **attributes: Attribute
    ) -> Resource:
        resource = Resource(kind, name, parents, tuple(sorted(attributes.items())))
        self.made[resource.uid] = resource
        return resource
