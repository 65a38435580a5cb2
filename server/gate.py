"""The gate: the one path of every call, from a name and raw arguments to an answer that is on record."""

from __future__ import annotations

import asyncio
import copy
import difflib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import rfc8785
from pydantic import ValidationError

from ..policies.engine import Engine
from ..policies.errors import ArborgateError, DeadlinePassed, Denied, Invalid, LoginNeeded, NotThere, ScopeNeeded
from ..policies.model import (
    INSTALLATION,
    NO_SCOPE,
    Action,
    AgentTrust,
    Attribute,
    Basis,
    Caller,
    Decision,
    Question,
    Resource,
)
from ..tools.cuts import shorten
from ..tools.fields import find_fields
from ..tools.record import Entry, Event, Record, name_caller, name_decision
from ..tools.text import quote
from ..tools.tool import AnyTool, Context, Effect, Params, Report, Result
from .answering import prepare
from .errors import explain_validation
from .masking import Masker, own_words
from .metrics import Metrics
from .reasons import explain_denial
from .step_up import find_login

Arguments = Mapping[str, Any]

CURSOR = "cursor"
"""The field of a result that holds a sealed position."""

_ECHOED = 300
"""Characters of an argument that an error repeats."""


class Recorder(Protocol):
    """The audit log as the gate needs it: `write` returns once the record is durable, or raises `Unrecorded`."""

    async def write(self, entry: Entry) -> Record: ...


class Cleaner(Protocol):
    """Redaction and neutralising of everything that leaves; the second value counts what was redacted."""

    def clean(self, value: Any) -> tuple[Any, int]: ...

    def clean_text(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gives back: `structured` fits the tool's result model, `text` says the same; or `error` alone.

    After a call that proposed something, `proposal` is its id and `page` where a person approves it, `""` for none."""

    structured: Mapping[str, Any] | None
    text: str
    error: ArborgateError | None = None
    proposal: str = ""
    page: str = ""


@dataclass(slots=True)
class _Call:
    """One call on its way: what the record will say of it, filled in step by step."""

    caller: Caller
    name: str
    arguments: Arguments
    trace_id: str
    began: float
    tool: AnyTool | None = None
    params: Params | None = None
    resources: Sequence[Resource] = ()
    question: Question | None = None
    decision: Decision | None = None
    policy_set: str = ""
    took_us: int = 0
    size: int = 0
    redactions: int = 0
    proposal: str = field(default="")
    ended: bool = False


class CallerPolicy:
    """Policy as one caller meets it, for the length of one call: one engine, so that no reload splits an answer."""

    __slots__ = ("_acr_values", "_caller", "_engine")

    def __init__(self, engine: Engine, caller: Caller, acr_values: Sequence[str] = ()) -> None:
        self._engine = engine
        self._caller = caller
        self._acr_values = acr_values

    def decide(self, action: Action, resource: Resource, context: tuple[tuple[str, Attribute], ...] = ()) -> Decision:
        return self._engine.decide(self._caller, action, resource, context)

    def visible(self, action: Action, resources: Sequence[Resource]) -> list[bool]:
        return self._engine.visible(self._caller, action, resources)

    def could(self, action: Action) -> bool:
        return not self.lacks(action) and self._engine.could(self._caller, action, self._acr_values)

    def only_alone(self) -> Mapping[Action, frozenset[bool]]:
        alone, lost = self._caller.alone, {}
        for action in Action:
            reach = self._engine.reach(alone, action, self._acr_values)
            if not self.lacks(action):
                reach -= self._engine.reach(self._caller, action, self._acr_values)
            lost[action] = reach
        return {action: reach for action, reach in lost.items() if reach}

    def lacks(self, action: Action) -> str:
        """The scope that the caller's token would need for this action; "" when it leaves nothing out."""
        return next((scope for group, scope in self._caller.withheld if group is action.group), "")

    def would(self, action: Action) -> bool:
        """Whether the caller could do this on something if the token had the scope for it."""
        return self._engine.could(self._caller, action, self._acr_values)

    def answer(self, action: Action, resources: Sequence[Resource]) -> tuple[Question, Decision]:
        """The decision over all of these resources, now, and what exactly it was made on."""
        question = Question(self._caller, action, tuple(resources), at=self._engine.now())
        return question, self._engine.answer(question)

    @property
    def trust(self) -> AgentTrust:
        return self._engine.trust(self._caller)

    def explain(self, question: Question, decision: Decision) -> str:
        """What the settings had to do with a denial, in sentences."""
        return explain_denial(self._engine, self._caller, question.resources, decision, question.at)

    def find_login(self, question: Question) -> LoginNeeded | None:
        """The login with which all of it would be allowed, where one would do."""

        def allows(caller: Caller) -> bool:
            return self._engine.answer(replace(question, caller=caller)).allowed

        return find_login(self._caller, question.action, allows, acr_values=self._acr_values, now=question.at)


class Gate:
    """Runs tools. There is no other way to run one."""

    def __init__(
        self,
        tools: Sequence[AnyTool],
        *,
        engine: Callable[[], Engine],
        context: Callable[[Caller, CallerPolicy], Awaitable[Context]],
        recorder: Recorder,
        cleaner: Cleaner,
        metrics: Metrics,
        timeout: float,
        acr_values: Sequence[str] = (),
        masker: Masker | None = None,
    ) -> None:
        """`acr_values`: what a stronger login can be, the weakest first (RFC 9470)."""
        self._tools = {tool.name: tool for tool in tools}
        self._engine = engine
        self._context = context
        self._recorder = recorder
        self._cleaner = cleaner
        self._metrics = metrics
        self._timeout = timeout
        self._acr_values = acr_values
        self._masker = masker or Masker()

    async def call(
        self, caller: Caller, name: str, arguments: Arguments, *, trace_id: str = "", report: Report | None = None
    ) -> Answer:
        """One call, start to end. Never raises but for cancellation: every failure is an answer, and on record.

        `report` is told how far a call has come that takes its time, in words without a secret."""
        call = _Call(caller, name, arguments, trace_id, began=time.perf_counter())
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                tool = self._find(call)
                deadline.reschedule((deadline.when() or 0.0) + tool.waits)
                params = call.params = _validate(tool, arguments)
                policy = self._ask_as(call)
                _check_scope(call, tool, policy)
                context = self._listen(await self._context(caller, policy), report)
                call.resources = await _name_resources(tool, context, params)
                _decide(call, tool, policy)
                if tool.effect is Effect.PROPOSES:
                    await self._record(call, Event.CALL_INTENDED, "intended")
                answer = await self._answer(call, tool, context, params)
            call.ended = True
            await self._record(call, Event.CALL_ANSWERED, "ok")
        except ArborgateError as error:
            return await self._fail(call, error)
        except TimeoutError:
            return await self._fail(call, _deadline(self._timeout))
        except asyncio.CancelledError:
            if not call.ended:  # else its outcome is on its way to the disk: one call has one
                await asyncio.shield(self._fail(call, DeadlinePassed("The client went away.")))
            raise
        except Exception as error:  # an unforeseen failure is an answer too, and tells nothing
            return await self._fail(call, _internal(error))
        return answer

    def offered(self, caller: Caller) -> list[AnyTool]:
        """The tools that this caller could use on something: what `tools/list` shows. One that waits for a further
        scope or another login is among them, or nobody would ever be asked for it."""
        policy = CallerPolicy(self._engine(), caller, self._acr_values)
        return [tool for tool in self._tools.values() if policy.would(tool.action)]

    def could(self, caller: Caller, action: Action) -> bool:
        """Whether there can be anything on which this caller may do this."""
        return CallerPolicy(self._engine(), caller, self._acr_values).would(action)

    def clean(self, text: str) -> str:
        """The text as it may go back to its sender by other ways than an answer."""
        return self._cleaner.clean_text(text)

    def _find(self, call: _Call) -> AnyTool:
        tool = self._tools.get(call.name)
        if tool is None:
            near = difflib.get_close_matches(call.name, [offered.name for offered in self.offered(call.caller)], n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else "tools/list names the tools you can use."
            raise UnknownTool("There is no tool of that name.", field="name", hint=hint)
        call.tool = tool
        return tool

    def _ask_as(self, call: _Call) -> CallerPolicy:
        engine = self._engine()
        call.policy_set = engine.digest
        return CallerPolicy(engine, call.caller, self._acr_values)

    def _listen(self, context: Context, report: Report | None) -> Context:
        """What a tool says while it runs leaves through the same cleaner as its answer."""
        if report is None:
            return context

        async def tell(said: str) -> None:
            await report(self._cleaner.clean_text(said))

        return replace(context, report=tell)

    async def _answer(self, call: _Call, tool: AnyTool, context: Context, params: Params) -> Answer:
        """Runs the tool; redacts, neutralises, masks and cuts. What leaves fits the result model again, or does not."""
        fields, own = find_fields(tool.result), own_words(call.caller)

        def clean(data: dict[str, Any]) -> tuple[dict[str, Any], int]:
            cleaned, count = self._cleaner.clean(data)
            if self._masker.suspects(cleaned) and not all(context.policy.visible(Action.PERSONAL_READ, call.resources)):
                cleaned = self._masker.mask(cleaned, fields, own)
            if (sealed := data.get(CURSOR)) is not None:  # ours, and random: it may look like anything
                cleaned[CURSOR] = sealed
            return cleaned, count

        async def run(asked: Params) -> Result:
            result: Result = await tool.run(context, asked)
            return result

        found = await prepare(tool, params, await run(params), clean=clean, again=run)
        call.size, call.redactions = found.size, found.redactions
        call.proposal = str(found.data.get("proposal", "")) if tool.effect is Effect.PROPOSES else ""
        page = str(found.data.get("page") or "") if call.proposal else ""
        return Answer(found.data, found.text, proposal=call.proposal, page=page)

    async def _fail(self, call: _Call, error: ArborgateError) -> Answer:
        event = Event.CALL_DENIED if _is_denial(call, error) else Event.CALL_FAILED
        try:
            await self._record(call, event, str(error.reason), error.detail or error.message)
        except ArborgateError as unrecorded:
            return Answer(None, "", _clean_error(unrecorded, self._cleaner.clean_text))

        def clean(text: str) -> str:
            cleaned = self._cleaner.clean_text(text)
            masked = self._masker.mask_text(cleaned, own_words(call.caller))
            # Asked of everything at once, so that the words do not tell what is there from what is not.
            shown = masked == cleaned or self._engine().decide(call.caller, Action.PERSONAL_READ, INSTALLATION).allowed
            return cleaned if shown else masked

        return Answer(None, "", _clean_error(_same_words(call, error), clean))

    async def _record(self, call: _Call, event: Event, outcome: str, detail: str = "") -> None:
        call.took_us = int((time.perf_counter() - call.began) * 1e6)
        tool = call.tool
        if event is not Event.CALL_INTENDED:
            self._metrics.observe_call(tool.name if tool else "", outcome, call.took_us)
        await self._recorder.write(
            Entry(
                event=event,
                **name_caller(call.caller),
                tool=tool.name if tool else "",
                action=tool.action if tool else "",
                resource=" ".join(resource.uid for resource in call.resources),
                arguments_digest=_digest(call.arguments),
                **name_decision(call.decision, call.question, call.policy_set, detail),
                outcome=outcome,
                took_us=call.took_us,
                bytes=call.size,
                redactions=call.redactions,
                proposal=call.proposal,
                trace_id=call.trace_id,
            )
        )


class UnknownTool(Invalid):
    """No tool has that name: a protocol error in MCP, not a tool's answer."""


def _validate(tool: AnyTool, arguments: Arguments) -> Params:
    try:
        params: Params = tool.params.model_validate(arguments)
    except ValidationError as error:
        raise explain_validation(error, tool.params) from error
    tool.budget.check(params)
    return params


async def _name_resources(tool: AnyTool, context: Context, params: Params) -> Sequence[Resource]:
    resources: Sequence[Resource] = await tool.resources(context, params)
    if not resources:
        # A call about nothing would be decided by nothing: deny by default.
        raise Denied("This call names nothing it could be allowed on.")
    return resources


def _check_scope(call: _Call, tool: AnyTool, policy: CallerPolicy) -> None:
    """By the action alone, before anybody looks for what is asked of: the answer tells nothing of what is there. Who
    could do it nowhere is not sent for a scope that would not help."""
    scope = policy.lacks(tool.action)
    if scope and policy.would(tool.action):
        call.question, call.decision = Question(call.caller, tool.action, ()), NO_SCOPE
        raise ScopeNeeded(scope)


def _decide(call: _Call, tool: AnyTool, policy: CallerPolicy) -> None:
    """Every resource must be allowed. A denied read goes on as `NotThere`: to the agent it is the same thing. What a
    further login would allow is asked for."""
    call.question, call.decision = policy.answer(tool.action, call.resources)
    if call.decision.allowed:
        return
    if tool.action.hides and tool.target is not None:
        raise NotThere("denied", detail=f"denied: {call.decision.basis}")
    raise policy.find_login(call.question) or _denied(call.decision, policy.explain(call.question, call.decision))


def _same_words(call: _Call, error: ArborgateError) -> ArborgateError:
    """One answer for "not there" and "not for you": made from the arguments alone, so that nothing can differ."""
    if not isinstance(error, NotThere) or call.tool is None or call.tool.target is None or call.params is None:
        return error
    asked = getattr(call.params, call.tool.target)
    return NotThere(
        f"Nothing called {quote(shorten(asked, _ECHOED))} is here, or you may not see it.",
        field=call.tool.target,
        hint="app_list shows what you can see; whoami says what you may do.",
    )


def _denied(decision: Decision, explanation: str) -> Denied:
    match decision.basis:
        case Basis.FORBID:
            why = f"Policy forbids it ({', '.join(decision.policies)})."
        case Basis.ERROR:
            why = "Policy could not be decided, which counts as no."
        case _:
            why = "No policy allows it."
    return Denied(f"{why} {explanation}".strip(), hint="whoami says what you may do and who may do more.")


def _is_denial(call: _Call, error: ArborgateError) -> bool:
    return isinstance(error, Denied) or (call.decision is not None and not call.decision.allowed)


def _deadline(seconds: float) -> DeadlinePassed:
    return DeadlinePassed(
        f"The call took longer than its {seconds:g} seconds.", hint="Ask for less (a filter, a smaller page)."
    )


def _internal(error: Exception) -> ArborgateError:
    return ArborgateError(
        "Something failed inside Arborgate; it is on record.",
        hint="Try again; if it stays, tell the platform team the time of this call.",
        detail=f"{type(error).__name__}: {error}",
    )


def _clean_error(error: ArborgateError, clean: Callable[[str], str]) -> ArborgateError:
    """The error without its detail, its words redacted: what an agent may be told. Words that can't be redacted are left
    out."""
    told = copy.copy(error)
    try:
        told.message = clean(error.message)
        told.field = clean(error.field) if error.field else error.field
        told.hint = clean(error.hint) if error.hint else None
    except Exception as failure:
        told = _internal(failure)
    told.args = (told.message,)
    told.detail = ""
    return told


def _dump_improper(arguments: Arguments) -> bytes:
    """Arguments that RFC 8785 has no form for (a big integer, half a character): still one text for one set of them."""
    try:
        return repr(arguments).encode("utf-8", "backslashreplace")
    except RecursionError:
        return b"nested too deep"


def _digest(arguments: Arguments) -> str:
    try:
        canonical = rfc8785.dumps(dict(arguments))
    except (ValueError, RecursionError):
        canonical = _dump_improper(arguments)
    return hashlib.sha256(canonical).hexdigest()
