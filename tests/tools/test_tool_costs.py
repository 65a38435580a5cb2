"""What a model pays for the reading tools: bytes of name, description and schemas, as `tools/list` sends them."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from arborgate.server.schemas import input_schema, output_schema
from arborgate.tools.identity.tools import build_whoami
from arborgate.tools.tool import AnyTool
from tests.tools.world import TOOLS

ALL = (*TOOLS, build_whoami(TOOLS))

OURS = frozenset(
    [
        "about",
        "actors",
        "agent",
        "app",
        "approvals",
        "apps",
        "at",
        "changes",
        "cluster",
        "created_at",
        "cursor",
        "cut",
        "deepest_failing",
        "deleting_since",
        "digest",
        "environment",
        "environments",
        "event",
        "expires_at",
        "failing",
        "failing_below",
        "health",
        "key",
        "kind",
        "line",
        "may_not",
        "message",
        "name",
        "next",
        "outcome",
        "page",
        "parent",
        "path",
        "policies",
        "proposal",
        "resource",
        "roles",
        "roles_at",
        "scopes",
        "short_digest",
        "state_at",
        "steps",
        "sync",
        "target",
        "time",
        "tool",
        "tools",
        "undo",
        "verdict",
        "version",
        "via",
        "way_out",
        "why",
        "within",
    ]
)
"""Fields whose text is ours, or can only be an id, a time or a name that an API server or we have checked. Of those called
`message` (of a finding), `kind` and `name` (of a workload) and `path` (of apps) there are untrusted ones too."""


def measure_asking(tool: AnyTool) -> int:
    return len(orjson.dumps([tool.name, tool.description, input_schema(tool.params)]))


def test_asking_costs_at_most_500_bytes_a_tool_on_average() -> None:
    assert sum(map(measure_asking, ALL)) / len(ALL) <= 500


def test_the_answers_of_all_reading_tools_are_described_in_18_kilobytes() -> None:
    assert sum(len(orjson.dumps(output_schema(tool.result))) for tool in ALL) <= 18 * 1024


@pytest.mark.parametrize("tool", ALL, ids=lambda tool: str(tool.name))
def test_text_that_is_not_ours_is_documented_as_untrusted(tool: AnyTool) -> None:
    assert {path for path, text in find_texts(output_schema(tool.result)) if "untrusted" not in text} <= OURS


def find_texts(schema: dict[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Every free text in a result: the name of its field (of its list's or map's) and its description."""
    if schema.get("type") == "string" and "enum" not in schema:
        yield name, schema.get("description", "")
    for inner, value in schema.get("properties", {}).items():
        yield from find_texts(value, inner)
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from find_texts(schema[keyword], name)
    for definition in schema.get("$defs", {}).values():
        yield from find_texts(definition)
