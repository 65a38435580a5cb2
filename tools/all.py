"""What exists: every tool, in one explicit, sorted tuple."""

from __future__ import annotations

from .argocd.tools import TOOLS as ARGOCD
from .identity.tools import TOOLS as IDENTITY
from .proposals.tools import TOOLS as PROPOSALS
from .records.tools import TOOLS as RECORDS
from .redis.tools import TOOLS as REDIS
from .rollouts.tools import TOOLS as ROLLOUTS
from .tool import AnyTool

TOOLS: tuple[AnyTool, ...] = tuple(
    sorted((*ARGOCD, *IDENTITY, *PROPOSALS, *RECORDS, *REDIS, *ROLLOUTS), key=lambda tool: tool.name)
)
