"""Everything that anybody can ask of the product, asked; what comes back, and what is kept and logged, is observed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import typer
from redis import Redis
from typer.testing import CliRunner

from arborgate.policies.errors import ArborgateError
from arborgate.server import cli_policy, cli_record
from arborgate.server.cli import report
from arborgate.server.logs import QUIET, set_up_logging
from arborgate.server.settings import read_settings
from arborgate.tools.kubernetes.source import connect
from arborgate.tools.tool import AnyTool, Context, Params, Result, Tool
from tests.redaction.planting import Planted
from tests.redaction.product import Product
from tests.redaction.questions import (
    BODIES,
    CHAINED,
    COMMENT,
    ERRORS,
    FAULT,
    FORESEEN,
    HEADERS,
    KUBECONFIG,
    LOGGED,
    LOGGED_CAUSE,
    LOGGED_ERROR,
    NO_KUBECONFIG,
    PAGES,
    POLICY,
    PROPOSALS,
    READS,
    RECORDS,
    REQUESTS,
    SETTINGS,
    TITLE,
)
from tests.redaction.worlds import fill
from tests.server.web.world import hidden_fields


class Broken(Params):
    what: str


def make_broken(named: AnyTool, planted: Mapping[str, Planted]) -> AnyTool:
    """A tool whose source fails in ways that sources do, with a secret in their words."""

    async def fail(_ctx: Context, params: Broken) -> Result:
        match params.what:
            case "foreseen":
                raise ArborgateError(
                    fill(FORESEEN, planted), hint=fill(FORESEEN, planted), detail=fill(FORESEEN, planted)
                )
            case "chained":
                try:
                    raise ValueError(fill(CHAINED, planted))
                except ValueError as error:
                    raise RuntimeError(fill(FAULT, planted)) from error
        raise RuntimeError(fill(FAULT, planted))

    return Tool(
        name="broken_read",
        description="Fails.",
        params=Broken,
        result=Result,
        action=named.action,
        resources=named.resources,
        run=fail,
        render=str,
    )


@contextmanager
def logged(clean: Callable[[str], str]) -> Iterator[io.StringIO]:
    """What is logged meanwhile, as `serve --log-level debug` would log it to standard error."""
    loggers = [logging.getLogger(name) for name in (None, *QUIET)]
    root, stream = loggers[0], io.StringIO()
    handlers, levels = root.handlers[:], [each.level for each in loggers]
    with redirect_stderr(stream):
        set_up_logging("debug", clean)
    for name in ("httpcore2", "httpx2"):  # the requests of these very tests
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


async def visit(product: Product, planted: Mapping[str, Planted]) -> None:
    """Asks everything, of everybody, and looks at what was kept."""
    for role, tool, arguments in fill(READS, planted):
        await call(product, role, tool, arguments)
    proposals = []
    for role, tool, arguments in fill(PROPOSALS, planted):
        answer = await call(product, role, tool, arguments)
        structured = answer.get("result", {}).get("structuredContent") or {}
        if "proposal" in structured:
            proposals.append(structured["proposal"])
    await asyncio.gather(*(settled(product, each) for each in proposals))
    for role, tool, arguments in fill(ERRORS, planted):
        await call(product, role, tool, arguments)
    await call(product, "developer", "whoami", {}, name=fill(TITLE, planted))
    for method, params in fill(REQUESTS, planted):
        await request(product, "developer", method, params)
    for proposal in proposals:
        await call(product, "developer", "proposal_get", {"proposal": proposal})
        await request(product, "developer", "resources/read", {"uri": f"arborgate://proposal/{proposal}"})
    await see_pages(product, planted, proposals)
    await knock(product, planted)
    write_log(planted)
    for role, tool, arguments in fill(RECORDS, planted):
        await call(product, role, tool, arguments)


async def call(product: Product, role: str, tool: str, arguments: Mapping[str, Any], **claims: Any) -> dict[str, Any]:
    """One call of a tool; what left over HTTP is observed, byte for byte."""
    return await request(product, role, "tools/call", {"name": tool, "arguments": arguments}, **claims)


async def request(product: Product, role: str, method: str, params: Mapping[str, Any], **claims: Any) -> dict[str, Any]:
    """One request in one of the two protocols, by turns; an answer to something that is no request has no result."""
    modern = len(product.seen) % 2 == 0 and (method.isascii() and str(params.get("name", "")).isprintable())
    headers = {
        "Authorization": f"Bearer {product.token(role, **claims)}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28" if modern else "2025-06-18",
    }
    if modern:
        headers |= {"Mcp-Method": method, "Mcp-Name": str(params.get("name", params.get("uri", "x")))}
        headers = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
        params = {
            **params,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = await product.http.post("/mcp", json=body, headers=headers)
    observe(product, f"mcp {method} {params.get('name', '')}"[:60], answer)
    with suppress(json.JSONDecodeError):
        return dict(answer.json())
    return {}


async def settled(product: Product, proposal: str) -> None:
    """Until the applier has rehearsed it."""
    async with asyncio.timeout(20):
        while (await product.services.proposals.get(proposal)).state == "drafted":
            await asyncio.sleep(0.01)


async def see_pages(product: Product, planted: Mapping[str, Planted], proposals: list[str]) -> None:
    """All pages, first as a stranger and then as an approver, who decides on one proposal after the other."""
    paths = fill(PAGES, planted, lambda text: quote(text, safe=""))
    for path in paths:
        observe(product, f"stranger {path.partition('?')[0][:24]}", await product.http.get(path))
    await product.log_in("approver")
    for path in (*paths, *(f"/proposals/{each}" for each in proposals)):
        observe(product, f"page {path.partition('?')[0][:24]}", await product.http.get(path))
    sent = {"Origin": product.settings.http.url, "Sec-Fetch-Site": "same-origin"}
    comment = fill(COMMENT, planted)
    for number, proposal in enumerate(proposals):
        page = f"/proposals/{proposal}"
        form = {**hidden_fields((await product.http.get(page)).text), "comment": comment}
        verdict = "approve" if number == 1 else "reject"
        wrong = await product.http.post(f"{page}/{verdict}", data={**form, "digest": "0" * 64}, headers=sent)
        observe(product, "page conflict", wrong)
        observe(product, "page draft", await product.http.get(page))
        observe(product, "page keeps draft", await product.http.get("/proposals"))
        observe_state(product, "state draft")
        observe(product, "page decision", await product.http.post(f"{page}/{verdict}", data=form, headers=sent))
        observe(product, "page decided", await product.http.get(page))
        terminal = product.token("approver", "approvals", client_id="arborgate-terminal")
        for path in (f"/approvals/{proposal}", "/approvals?state=all"):
            answer = await product.http.get(path, headers={"Authorization": f"Bearer {terminal}"})
            observe(product, "terminal", answer)
        await call(product, "developer", "proposal_get", {"proposal": proposal})


async def knock(product: Product, planted: Mapping[str, Planted]) -> None:
    """Requests that get no further than the door."""
    accept = {"Accept": "application/json, text/event-stream"}
    bearer = {"Authorization": f"Bearer {product.token('developer')}", "Content-Type": "application/json", **accept}
    for headers in fill(HEADERS, planted):
        plain = {name: value.encode("ascii", "ignore").decode() for name, value in headers.items()}
        for path in ("/mcp", "/approvals", "/proposals"):
            with suppress(httpx2.HTTPError):  # a header that no client sends
                method = "POST" if path == "/mcp" else "GET"
                observe(product, f"door {path}", await product.http.request(method, path, headers={**accept, **plain}))
    for body in fill(BODIES, planted):
        observe(product, "door body", await product.http.post("/mcp", content=body.encode(), headers=bearer))


def write_log(planted: Mapping[str, Planted]) -> None:
    """Log lines as code and libraries write them: a text, its arguments, an error and what caused it."""
    log = logging.getLogger("arborgate.tests")
    log.warning(fill(LOGGED, planted))
    log.warning("refused: %s %r", fill(LOGGED, planted), {"body": fill(LOGGED, planted)})
    try:
        try:
            raise ValueError(fill(LOGGED_CAUSE, planted))
        except ValueError as error:
            raise OSError(fill(LOGGED_ERROR, planted)) from error
    except OSError:
        log.exception("could not be read")


async def start_badly(product_folder: Path, planted: Mapping[str, Planted]) -> list[tuple[str, str]]:
    """What is said of settings, kubeconfigs and policies that can't be used, to whoever starts Arborgate."""
    said: list[tuple[str, str]] = []
    for number, raw in enumerate(SETTINGS):
        path = product_folder / f"settings-{number}.yaml"
        path.write_text(json.dumps(fill(raw, planted)))
        try:
            read_settings(path, {})
        except ArborgateError as error:
            said.append(("settings", print_error(error)))
    broken = product_folder / "kubeconfig"
    for text in (json.dumps(fill(KUBECONFIG, planted)), fill(NO_KUBECONFIG, planted)):
        broken.write_text(text)
        try:
            await (await connect("main", broken, "")).close()  # type: ignore[no-untyped-call]  # untyped there
        except ArborgateError as error:
            said.append(("kubeconfig", print_error(error)))
    policies = product_folder / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "mine.cedar").write_text(fill(POLICY, planted))
    said.append(("policy check", run(cli_policy.commands, "check", str(policies))))
    return said


def read_kept(folder: Path, admin: Redis) -> list[tuple[str, str]]:
    """What is on disk and in the state's Redis, and what the terminal shows of the record."""
    record = folder / "record"
    kept = [(f"record {path.stem}", path.read_text()) for path in sorted(record.glob("*.jsonl"))]
    kept += [
        ("cli record", run(cli_record.commands, *words))
        for words in (("tail", str(record), "-n", "1000"), ("search", str(record), "--json", "--limit", "1000"))
    ]
    return [*kept, *((f"state {key}", text) for key, text in dump_state(admin))]


def dump_state(admin: Redis) -> list[tuple[str, str]]:
    """Every key under the state's prefix, with all it holds, as text."""
    found = []
    for key in sorted(admin.scan_iter("arborgate:*")):
        kind = admin.type(key)
        held: Any
        match kind:
            case b"string":
                held = admin.get(key)
            case b"hash":
                held = admin.hgetall(key)
            case b"list":
                held = admin.lrange(key, 0, -1)
            case b"set":
                held = admin.smembers(key)
            case b"zset":
                held = admin.zrange(key, 0, -1)
            case b"stream":
                held = admin.xrange(key)
            case _:
                held = None
        name = key.decode("latin-1")
        found.append((":".join(name.split(":")[:2]), f"{name} {held!r}"))
    return found


def observe_state(product: Product, channel: str) -> None:
    for name, text in dump_state(product.admin):
        product.observe(f"{channel} {name}", text)


def observe(product: Product, channel: str, answer: httpx2.Response) -> None:
    """The whole answer: status, headers, body."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name not in _OWN)
    product.observe(channel, f"{answer.status_code}\n{headers}\n\n{answer.text}")


_OWN = ("location", "set-cookie")
"""Headers that tell a browser the address it asked for, and its own session."""


def print_error(error: ArborgateError) -> str:
    """What `arborgate serve` says on its way out."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        report(error)
    return stream.getvalue()


def run(commands: typer.Typer, *words: str) -> str:
    return CliRunner().invoke(commands, words).output
