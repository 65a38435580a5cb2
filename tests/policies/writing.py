"""Policy folders to load in tests: the shipped set copied, changed and added to."""

import shutil
from collections.abc import Callable
from pathlib import Path

from arborgate.policies.agents import Agents
from arborgate.policies.engine import LoadedPolicies
from arborgate.policies.loader import SHIPPED, Folder, assemble, read_folder, read_policies
from arborgate.policies.model import INSTALLATION, Caller, Channel, Resource, ResourceType
from arborgate.policies.surroundings import Surroundings

TRUSTING = Surroundings(agents=Agents(trusted=("*",)))
"""Settings by which every agent that has a name is trusted."""


def copy_shipped(to: Path) -> Path:
    """A folder of its own with the shipped policies and their cases."""
    to.mkdir(exist_ok=True)
    for file in SHIPPED.glob("*.cedar"):
        shutil.copy(file, to)
    shutil.copytree(SHIPPED / "cases", to / "cases", dirs_exist_ok=True)
    return to


def change(file: Path, edit: Callable[[str], str]) -> None:
    """Changes a file; an edit that changes nothing is a mistake in the test."""
    before = file.read_text()
    after = edit(before)
    assert after != before
    file.write_text(after)


def line_of(file: Path, text: str) -> int:
    """The line that the text is in, counted from 1."""
    return file.read_text().partition(text)[0].count("\n") + 1


def write_policies(to: Path, policies: str) -> Path:
    """A folder that holds these policies alone, without cases: for `read_policies`."""
    to.mkdir(exist_ok=True)
    (to / "only.cedar").write_text(policies)
    return to


def read_alone(folder: Path) -> Folder:
    """What the folder itself holds, without what is always in force."""
    whole = read_folder(folder)
    return Folder(
        [each for each in whole.statements if each.location.file.is_relative_to(folder)],
        [each for each in whole.cases if each.location.file.is_relative_to(folder)],
        whole.digest,
    )


def load_alone(to: Path, policies: str) -> LoadedPolicies:
    """A set of these policies alone, without what is always in force."""
    return assemble(read_alone(write_policies(to, policies)).statements)


def shipped_ids() -> list[str]:
    return sorted(read_policies(None)[0].locations)


def person(name: str = "vera", *roles: str, agent: str = "copilot", channel: Channel = Channel.MCP) -> Caller:
    return Caller(
        issuer="https://issuer.example",
        subject=name,
        name=name.title(),
        groups=frozenset({"staff"}),
        roles=frozenset(roles),
        agent=agent,
        channel=channel,
    )


def environment(name: str, strict: bool) -> Resource:
    return Resource(ResourceType.ENVIRONMENT, name, (INSTALLATION,), (("name", name), ("strict", strict)))


def app(name: str, *parents: Resource, labels: tuple[str, ...] = ()) -> Resource:
    facts = (
        ("cluster", "main"),
        ("environment", "any"),
        ("labels", labels),
        ("name", name),
        ("namespace", "argocd"),
        ("project", "default"),
    )
    return Resource(ResourceType.APP, f"main/argocd/{name}", parents, facts)


def keyspace(of: Resource, prefix: str = "shop:") -> Resource:
    return Resource(ResourceType.KEYSPACE, f"main:{prefix}", (of,), (("prefix", prefix), ("source", "main")))


def proposal(of: Resource, requester: Caller) -> Resource:
    attributes = (("breaker", ""), ("factors", ()), ("requester", requester.key), ("risk", "low"))
    return Resource(ResourceType.PROPOSAL, "p-1", (of,), attributes)
