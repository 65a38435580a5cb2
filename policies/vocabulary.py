"""What can be said at all: which resources an action is asked of, what they have and lie in, which words a field knows.

The schema answers for itself: Cedar's validator is asked whether a policy that says so could be about anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import cedarpy

from .model import Action, AgentTrust, Channel, ResourceType

WORDS: Mapping[str, frozenset[str]] = {
    "context.channel": frozenset(Channel),
    "context.trust": frozenset(AgentTrust),
    "resource.risk": frozenset({"high", "low"}),
}
"""Fields that hold one of a few words, each with the words."""

CONTAINED: Mapping[str, frozenset[str]] = {
    "context.kinds": frozenset(
        {"promote", "restart", "rollback", "scale", "set_image", "set_revision", "sync", "unknown"}
    ),
    "resource.factors": frozenset(
        {
            "downgrade",
            "many_apps",
            "new_requester",
            "off_hours",
            "replicas_to_zero",
            "secrets_touched",
            "strict_environment",
        }
    ),
}
"""Sets that contain some of a few words, each with the words."""

INTERACTIVE = frozenset({Channel.PAGES, Channel.TERMINAL})
"""The channels for which `context.interactive` is true."""

NEVER_NEGATIVE = frozenset(
    {
        "context.applied_today",
        "context.approvals",
        "context.login_age",
        "context.signed_approvals",
        "context.unreviewed",
    }
)
"""Numbers that count something."""


class Vocabulary:
    """What the schema knows, found out once and remembered."""

    def __init__(self, schema: cedarpy.Schema) -> None:
        self._schema = schema
        self._optional = frozenset(re.findall(r'"?(\w+)"?\?\s*:', str(schema)))
        self.types_of = cache(self._types_of)
        """The types of resources that an action is asked of."""
        self.lies_in = cache(self._lies_in)
        """Whether a resource of the one type can be, or be below, one of the other."""
        self.has = cache(self._has)
        """Whether resources of a type have an attribute; None where some do."""

    def _types_of(self, action: Action) -> tuple[ResourceType, ...]:
        return tuple(kind for kind in ResourceType if self._makes_sense(action, f"resource is {kind}"))

    def _lies_in(self, lower: ResourceType, upper: str) -> bool:
        return self._makes_sense(self._some_action(lower), f'resource is {lower} in {upper}::"x"')

    def _has(self, kind: ResourceType, attribute: str) -> bool | None:
        if attribute in self._optional:
            return None
        looks = f"when {{ resource.{attribute} == resource.{attribute} }}"
        return self._makes_sense(self._some_action(kind), f"resource is {kind}", looks)

    def _some_action(self, kind: ResourceType) -> Action:
        return next(action for action in Action if kind in self.types_of(action))

    def _makes_sense(self, action: Action, resource: str, clause: str = "") -> bool:
        text = f'permit (principal, action == Action::"{action}", {resource}) {clause};'
        return cedarpy.validate_policies(text, self._schema).validation_passed


@cache
def find_vocabulary(schema: cedarpy.Schema) -> Vocabulary:
    """The vocabulary of a schema, the same one each time."""
    return Vocabulary(schema)
