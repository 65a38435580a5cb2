"""The Redis users that Arborgate needs and what each may do: one text for the demo, the tests and deploy/redis."""

from __future__ import annotations

from .source import READS

CONNECTS = frozenset(
    {
        "AUTH",
        "CLIENT SETNAME",
        "CLUSTER INFO",
        "CLUSTER KEYSLOT",
        "CLUSTER MYID",
        "CLUSTER NODES",
        "CLUSTER SHARDS",
        "CLUSTER SLOTS",
        "COMMAND",
        "HELLO",
        "PING",
        "READONLY",
        "READWRITE",
        "ROLE",
        "SELECT",
    }
)
"""What a client sends to connect, to find the nodes of a Cluster and to ask a server behind Sentinel for its role."""


PARENT_COMMANDS = frozenset({"XADD", "XRANGE", "XREAD"})
"""What the controller of a parent app sends."""


def _allow(commands: frozenset[str]) -> tuple[str, ...]:
    return tuple(f"+{command.lower().replace(' ', '|')}" for command in sorted(commands))


READER_RULES = ("~*", "resetchannels", *_allow(READS | CONNECTS))
"""The user that agents' reads go through: exactly the commands that are ever sent. Narrow `~*` to the prefixes that apps
own. Redis's categories do not separate reading from writing, so it is command by command."""

STATE_RULES = (
    "~{arborgate}:*",  # the hash tag keeps it in one slot of a Cluster
    "&arborgate:*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "-randomkey",  # these two show the names of everybody's keys
    "-scan",
    "-script",
    "+script|exists",
    "+script|load",
    "+info",
    *_allow(CONNECTS),
)
"""The user of Arborgate's own keyspace."""


def parent_rules(app: str, prefix: str = "{arborgate}:") -> tuple[str, ...]:
    """The user of a parent app's controller, by the app's id: it reads what is put before the app, and reads and appends to
    what the app says. Needs Redis 7."""
    keys = (f"%R~{prefix}parent:{app}:asked", f"~{prefix}parent:{app}:said")
    return (*keys, "resetchannels", *_allow(PARENT_COMMANDS | CONNECTS))
