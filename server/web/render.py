"""Pages from templates: Jinja with escaping on, and the words, shapes and times that the templates use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from ...tools.proposal import ProposalState, StepState
from ...tools.tree import Health, Sync
from .guard import HEADERS
from .sessions import Session
from .words import isolate, reveal_clean, show_distance, show_duration, show_time

HERE = Path(__file__).parent
STATIC = HERE / "static"

# A tone is a colour and a shape together, so that neither is needed to tell them apart.
_TONES: Mapping[str, str] = {
    Health.DEGRADED: "bad",
    Health.MISSING: "bad",
    Health.UNKNOWN: "unsure",
    Health.PROGRESSING: "busy",
    Health.SUSPENDED: "idle",
    Health.HEALTHY: "good",
    Sync.OUT_OF_SYNC: "warn",
    Sync.SYNCED: "good",
    ProposalState.DRAFTED: "busy",
    ProposalState.PROPOSED: "asks",
    ProposalState.APPROVED: "busy",
    ProposalState.APPLYING: "busy",
    ProposalState.APPLIED: "good",
    ProposalState.FAILED: "bad",
    ProposalState.ROLLED_BACK: "bad",
    ProposalState.REFUSED: "bad",
    ProposalState.STALE: "unsure",
    StepState.STARTED: "busy",
    StepState.HEALTHY: "good",
    StepState.UNDOING: "busy",
    StepState.UNDONE: "unsure",
}


class Renderer:
    """Renders a template as a response that no cache keeps. `clean` takes secrets out of untrusted text."""

    def __init__(self, *, clean: Callable[[str], str], clock: Callable[[], float], demo: bool) -> None:
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            clean=clean,
            words=lambda text: isolate(reveal_clean(text, clean)),
            duration=show_duration,
            time=show_time,
            tone=lambda value: _TONES.get(value, "quiet"),
            spaced=lambda value: str(value).replace("_", " "),
        )
        self._templates.globals.update(demo=demo, static=_version_static())

    def page(self, template: str, session: Session | None, *, status: int = 200, **values: object) -> HTMLResponse:
        """A whole page. Every template sees `session` (None: nobody is logged in) and `now`."""
        now = self._clock()
        values = {"distance": lambda seconds: show_distance(seconds, now), "now": now, **values}
        body = self._templates.get_template(template).render(session=session, **values)
        return HTMLResponse(body, status, headers={**HEADERS, "Cache-Control": "no-store"})


def _version_static() -> Mapping[str, str]:
    """The URL of each static file, which changes with its content, so that browsers may keep it for good."""
    return {
        file.name: f"/static/{file.name}?v={hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
        for file in sorted(STATIC.iterdir())
    }
