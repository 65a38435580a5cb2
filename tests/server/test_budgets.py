"""The size of answers: data and text keep to their budget, say what is missing, and no page skips a row."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.policies.errors import Invalid
from arborgate.policies.model import INSTALLATION, Action, Resource
from arborgate.server.answering import prepare, say_way_out
from arborgate.server.budget import cut_to_budget, measure
from arborgate.tools.all import TOOLS
from arborgate.tools.budget import ANSWER, ASKED, LEAST, Budget, Page
from arborgate.tools.fields import Fields, find_fields
from arborgate.tools.paging import Paged
from arborgate.tools.record import Event, Record
from arborgate.tools.redis.source import RedisState
from arborgate.tools.tool import AnyTool, Params, Result, Tool, Untrusted
from arborgate.tools.tree import Health
from tests.parts.redis import RedisServer
from tests.test_untrusted import make
from tests.tools.redis.test_tools import Bench, make_bench
from tests.tools.test_proposal_tools import make_proposal
from tests.tools.world import ADA, AUDITOR, World, make_app, make_managed

pytestmark = pytest.mark.anyio

FIELDS = Fields(frozenset({"rows", "few"}), frozenset({"labels"}), frozenset({"diff"}), frozenset())
SIZED = [tool for tool in TOOLS if ASKED in tool.params.model_fields]


def test_a_small_answer_is_not_touched() -> None:
    data = {"rows": [1, 2]}
    assert cut_to_budget(data, 1_000, FIELDS) == len(orjson.dumps(data))
    assert data == {"rows": [1, 2]}


@given(st.integers(50, 400), st.integers(600, 4_000))
def test_a_big_answer_is_cut_to_its_budget_and_says_what_is_missing(rows: int, budget: int) -> None:
    data: dict[str, Any] = {"app": "api", "rows": [{"n": n, "text": "row " * 5} for n in range(rows)]}
    size = cut_to_budget(data, budget, FIELDS, way_out="Ask elsewhere.")
    assert size == len(orjson.dumps(data)) <= budget
    if len(data["rows"]) < rows:
        lost = rows - len(data["rows"])
        assert data["cut"] == f"Left out to keep this answer small: {lost} of {rows} rows. Ask elsewhere."


def test_what_a_tool_said_of_its_own_cut_stays_said() -> None:
    data: dict[str, Any] = {"cut": "Left out: 3 images.", "rows": list(range(2_000))}
    cut_to_budget(data, 500, FIELDS)
    assert data["cut"].startswith("Left out: 3 images. Left out to keep this answer small: ")


def test_texts_and_maps_are_shortened_where_they_are_what_is_large() -> None:
    data: dict[str, Any] = {"diff": "x" * 50_000, "rows": [1, 2], "labels": {str(n): "v" for n in range(400)}}
    assert cut_to_budget(data, 2_000, FIELDS) <= 2_000
    assert data["rows"] == [1, 2]
    lost = 50_000 - len(data["diff"])
    assert f"{lost} of 50000 characters of diff" in data["cut"]
    assert f"{400 - len(data['labels'])} of 400 labels" in data["cut"]


def test_what_is_no_list_of_rows_and_no_untrusted_text_is_never_cut() -> None:
    data: dict[str, Any] = {"cursor": "c" * 900, "app": "a" * 300, "call": {"arguments": [1] * 50}, "diff": "x" * 800}
    cut_to_budget(data, 1_700, FIELDS)
    assert (data["cursor"], data["app"], data["call"]) == ("c" * 900, "a" * 300, {"arguments": [1] * 50})


def test_what_cannot_fit_is_an_error_that_says_how_much_it_takes() -> None:
    with pytest.raises(Invalid) as refused:
        cut_to_budget({"app": "a" * 3_000, "rows": [1]}, 2_000, FIELDS, keep="rows")
    assert refused.value.field == "max_bytes"
    assert "3" in str(refused.value.hint)


def test_a_page_keeps_its_first_row_or_is_none() -> None:
    data: dict[str, Any] = {"rows": [{"n": "x" * 1_900}], "few": [1, 2]}
    with pytest.raises(Invalid):
        cut_to_budget(data, 1_500, FIELDS, keep="rows")
    assert len(data["rows"]) == 1
    assert cut_to_budget({"rows": [{"n": "x" * 1_900}]}, 1_500, FIELDS) <= 1_500


async def test_a_text_that_is_larger_than_its_data_counts_too() -> None:
    tool = make_tool(lambda told: "\n".join(f"{row} " * 9 for row in told.rows))
    asked = Asked(limit=40)

    async def again(params: Params) -> Result:
        return await list_rows(None, Asked.model_validate(params.model_dump()), 100)

    told = await prepare(tool, asked, await again(asked), clean=lambda data: (data, 0), again=again)
    assert len(told.text.encode()) <= 8_000
    assert told.data["cursor"] == str(len(told.data["rows"]))
    assert len(told.data["rows"]) < 40


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: str(tool.name))
@pytest.mark.parametrize("text", ["plain ", "«é\n</x> ", '"\\\t'])
async def test_the_answer_of_every_tool_fits_whatever_is_in_it(tool: AnyTool, text: str) -> None:
    params = tool.params.model_construct(**({ASKED: LEAST} if tool in SIZED else {}), limit=1, count=1, cursor="")
    room = tool.budget.of(params)
    result = make(tool.result, text * 400)
    data = result.model_dump()
    for path in find_fields(tool.result).lists:
        if isinstance(data.get(path), list):
            data[path] *= 20
    told = (
        await prepare(
            tool,
            params,
            tool.result.model_validate(data),
            clean=lambda value: (value, 0),
            again=lambda _: never(),
        )
        if tool.page is None
        else await prepare(
            tool.__class__(**{**{name: getattr(tool, name) for name in tool.__slots__}, "page": None}),
            params,
            tool.result.model_validate(data),
            clean=lambda value: (value, 0),
            again=lambda _: never(),
        )
    )
    assert told.size == measure(told.data) <= room
    assert len(told.text.encode()) <= room
    if told.data.get("cut", "").startswith("Left out"):
        assert told.data["cut"] in told.text or "This text ends here" in told.text


async def never() -> Result:
    raise AssertionError


@pytest.mark.parametrize("tool", SIZED, ids=lambda tool: str(tool.name))
async def test_a_size_that_no_answer_has_is_an_error_that_names_the_way_out(tmp_path: Path, tool: AnyTool) -> None:
    world = World(tmp_path, make_app("api"))
    for asked in (1, LEAST - 1, tool.budget.most + 1, -7):
        with pytest.raises(Invalid) as refused:
            tool.budget.check(tool.params.model_construct(max_bytes=asked))
        assert refused.value.field == "max_bytes"
    error = await world.fail("app_list", max_bytes=100)
    assert (error.field, str(LEAST) in error.message, "16384" in str(error.hint)) == ("max_bytes", True, True)


def test_the_way_out_is_only_offered_where_there_is_one() -> None:
    tool = next(tool for tool in TOOLS if tool.name == "app_tree")
    assert say_way_out(tool, tool.params()) == (
        "Ask with max_bytes up to 65536, or give a root, less depth, or only_unhealthy=true."
    )
    assert say_way_out(tool, tool.params(max_bytes=65_536)) == "Give a root, less depth, or only_unhealthy=true."
    whoami = next(tool for tool in TOOLS if tool.name == "whoami")
    assert say_way_out(whoami, whoami.params()) == ""


def make_apps(count: int) -> list[Any]:
    said = "back-off restarting failed container " * 3
    return [make_app(f"app-{n:03}", health=Health.DEGRADED, health_message=f"{n} {said}") for n in range(count)]


def make_record(number: int) -> Record:
    return Record(
        event=Event.CALL_ANSWERED,
        caller=AUDITOR.key,
        caller_name=f"Person {number}",
        agent="agent " * 10,
        tool="app_list",
        resource="App::main/argocd/" + "x" * 100,
        seq=number,
        time="2025-11-22T08:00:00Z",
        replica="r",
        prev="",
        hash="",
    )


@pytest.fixture
async def bench(tmp_path: Path, redis_server: RedisServer, redis_url: str) -> AsyncIterator[Bench]:
    from arborgate.tools.redis.connection import connect

    state = RedisState({"main": connect(redis_server.url("reader"), timeout=1.0, decode=False)})
    yield make_bench(tmp_path, state, redis_server.admin)
    await state.close()


@pytest.mark.parametrize("size", [LEAST, 6_000, 0])
async def test_pages_that_are_cut_short_skip_no_row_and_repeat_none(tmp_path: Path, size: int) -> None:
    world = World(tmp_path, *make_apps(60))
    world.proposals.kept.extend(make_proposal(number, "app-001", "app-002") for number in range(60))
    world.records.written.extend(make_record(number) for number in range(1, 61))
    for tool, rows, key, arguments in (
        ("app_list", "apps", "app", {}),
        ("proposal_list", "proposals", "proposal", {}),
        ("record_search", "records", "line", {"until": "2025-11-22T08:00:01Z", "tool": "app_list", "agent": "agent"}),
    ):
        found: list[str] = []
        cursor, cut = "", 0
        while True:
            asked = {"limit": 60, "cursor": cursor, **({} if size == 0 else {ASKED: size}), **arguments}
            answer = await world.call(
                tool, AUDITOR, **{name: value for name, value in asked.items() if name != "agent"}
            )
            assert answer.error is None, (tool, answer.error)
            page = answer.structured
            assert page is not None
            assert max(measure(dict(page)), len(answer.text.encode())) <= (size or ANSWER.default), tool
            found += [row[key] for row in page[rows] if key != "line" or row["person"].startswith("Person")]
            cut += "cut" in page
            if "cut" in page:
                assert "cursor" in page
                assert page["cut"] in answer.text
                assert f"{len(page[rows])} of 60 rows asked for fit into {size or ANSWER.default} bytes" in page["cut"]
            cursor = page.get("cursor", "")
            if not cursor:
                break
        assert len(found) == len(set(found)) == 60, tool
        assert cut >= (1 if size else 0), tool


async def test_redis_pages_that_are_cut_short_skip_no_key_and_no_element(bench: Bench) -> None:
    names = {f"orders:{'k' * 90}:{number}" for number in range(150)}
    bench.admin.mset(dict.fromkeys(names, "1"))
    found: list[str] = []
    cursor = ""
    while True:
        answer = await bench.gate.call(
            ADA, "redis_keys", {"app": "orders", "limit": 100, "cursor": cursor, ASKED: LEAST}
        )
        assert answer.structured is not None
        assert max(measure(dict(answer.structured)), len(answer.text.encode())) <= LEAST
        found += [row["key"] for row in answer.structured["keys"]]
        cursor = answer.structured.get("cursor", "")
        if not cursor:
            break
    assert sorted(found) == sorted(names)
    bench.admin.rpush("orders:list", *(f"{number} {'v' * 300}" for number in range(80)))
    held: list[str] = []
    offset: int | None = 0
    while offset is not None:
        asked = {"app": "orders", "key": "orders:list", "count": 50, "offset": offset, ASKED: LEAST}
        answer = await bench.gate.call(ADA, "redis_read", asked)
        assert answer.structured is not None
        assert max(measure(dict(answer.structured)), len(answer.text.encode())) <= LEAST
        held += [row["value"].split()[0] for row in answer.structured["items"]]
        offset = answer.structured.get("next_offset")
    assert held == [str(number) for number in range(80)]


async def test_who_asks_for_more_gets_more(tmp_path: Path) -> None:
    resources = tuple(
        make_managed("Deployment", f"part-{number}", health="Degraded", message="it does not start " * 5)
        for number in range(200)
    )
    world = World(tmp_path, make_app("api", managed=resources), *make_apps(300))
    small = await world.ask("app_get", app="api")
    large = await world.ask("app_get", app="api", max_bytes=ANSWER.most)
    assert len(small["resources"]["shown"]) == 20
    assert len(large["resources"]["shown"]) == 80
    assert "max_bytes" in small["cut"]
    assert "max_bytes" not in large["cut"]
    rows = [len((await world.ask("app_tree", max_bytes=size))["rows"]) for size in (LEAST, 16_384, ANSWER.most)]
    assert rows[0] < rows[1] < rows[2] == 301


class Asked(Paged):
    pass


class Told(Result):
    rows: list[Untrusted]
    cursor: str | None = None


async def list_rows(_ctx: Any, params: Asked, length: int) -> Told:
    start = int(params.cursor or 0)
    rows = [f"{number} {'x' * length}" for number in range(start, start + params.limit)]
    return Told(rows=rows, cursor=str(start + params.limit))


def make_tool(render: Callable[[Told], str]) -> Tool[Asked, Told]:
    return Tool(
        name="thing_list",
        description="",
        params=Asked,
        result=Told,
        action=Action.APP_LIST,
        resources=nowhere,
        run=lambda ctx, params: list_rows(ctx, params, 10),
        render=render,
        budget=Budget(8_000),
        page=Page("rows"),
    )


async def nowhere(_ctx: Any, _params: Asked) -> Sequence[Resource]:
    return (INSTALLATION,)


async def test_a_row_that_alone_is_too_large_is_cut_itself_and_the_cursor_goes_on() -> None:
    tool = make_tool(lambda told: "\n".join([*told.rows, told.cut or ""]))
    asked = Asked(limit=5)

    async def again(params: Params) -> Result:
        return await list_rows(None, Asked.model_validate(params.model_dump()), 30_000)

    told = await prepare(tool, asked, await again(asked), clean=lambda data: (data, 0), again=again)
    assert (len(told.data["rows"]), told.data["cursor"]) == (1, "1")
    assert told.size <= 8_000
    assert "1 of 5 rows asked for" in told.data["cut"]
    assert "characters of rows" in told.data["cut"]
