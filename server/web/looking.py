"""Looking into what is about the whole installation: allowed by policy or not, and on record either way."""

from __future__ import annotations

from ...policies.engine import Engine
from ...policies.errors import Denied
from ...policies.model import INSTALLATION, Action, Caller, Question
from ...tools.record import Entry, Event, name_caller, name_decision
from ..gate import Recorder


async def require(
    engine: Engine, recorder: Recorder, caller: Caller, action: Action, at: float, refusal: Denied
) -> None:
    """Raises `refusal` where policy does not allow it at this moment (seconds since the epoch), and `Unrecorded`."""
    question = Question(caller, action, (INSTALLATION,), at=at)
    decision = engine.answer(question)
    await recorder.write(
        Entry(
            event=Event.CALL_ANSWERED if decision.allowed else Event.CALL_DENIED,
            **name_caller(caller),
            action=action,
            resource=INSTALLATION.uid,
            **name_decision(decision, question, engine.digest),
            outcome="ok" if decision.allowed else "denied",
        )
    )
    if not decision.allowed:
        raise refusal
