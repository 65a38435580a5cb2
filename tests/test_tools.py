"""The tools as a client receives them: one golden file each, and what a model pays for the list."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from arborgate.server.mcp import describe
from arborgate.tools.all import TOOLS
from arborgate.tools.tool import AnyTool, Effect

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parent.parent
PAID_PER_TOOL = 600
"""The most bytes of name, description and input schema a tool may cost a model on average."""
WHOLE_LIST = 32 * 1_024
"""The most bytes of the whole list with output schemas."""


def wire(tool: AnyTool) -> dict[str, Any]:
    return describe(tool).model_dump(mode="json", by_alias=True, exclude_none=True)


def compact(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_is_what_its_golden_file_says(tool: AnyTool) -> None:
    path = GOLDEN / f"{tool.name}.json"
    text = json.dumps(wire(tool), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("ARBORGATE_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text, "read the difference as a model would, then run `make golden`"


def test_no_golden_file_is_without_its_tool() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {tool.name for tool in TOOLS}


def test_the_list_is_sorted_and_names_are_thing_and_verb() -> None:
    names = [tool.name for tool in TOOLS]
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)?", name) for name in names)


def test_what_a_model_pays_for_the_list_stays_small(capsys: pytest.CaptureFixture[str]) -> None:
    whole = [wire(tool) for tool in TOOLS]
    paid = sum(compact({key: tool[key] for key in ("name", "description", "inputSchema")}) for tool in whole) / len(
        whole
    )
    total = compact(whole)
    with capsys.disabled():
        print(f"\ntool list: {paid:.0f} bytes a tool (at most {PAID_PER_TOOL}), {total} in all (at most {WHOLE_LIST})")  # noqa: T201
    assert paid <= PAID_PER_TOOL
    assert total <= WHOLE_LIST


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_params_and_results_are_closed(tool: AnyTool) -> None:
    assert tool.params.model_config["extra"] == "forbid"
    assert tool.result.model_config["extra"] == "forbid"
    assert wire(tool)["inputSchema"]["additionalProperties"] is False


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_only_tools_that_read_are_marked_read_only_and_none_as_destructive(tool: AnyTool) -> None:
    annotations = wire(tool)["annotations"]
    assert annotations["readOnlyHint"] is (tool.effect is Effect.READS)
    assert annotations["destructiveHint"] is False


def test_the_target_of_a_tool_is_one_of_its_params() -> None:
    assert [tool.name for tool in TOOLS if tool.target and tool.target not in tool.params.model_fields] == []


def test_the_readme_names_every_tool() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [tool.name for tool in TOOLS if f"`{tool.name}`" not in readme] == []


def test_the_packages_of_the_wheel_are_the_folders_with_code() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("arborgate", *path.parent.relative_to(ROOT).parts))
        for folder in ("server", "tools", "policies")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(listed) == found


def test_no_file_names_a_yaml_that_is_none() -> None:
    for path in (ROOT / "deploy").rglob("*.yaml"):
        assert [document for document in yaml.safe_load_all(path.read_text()) if document], path
