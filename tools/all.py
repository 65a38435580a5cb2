"""What exists: every tool, in one explicit, sorted tuple."""

from __future__ import annotations

from .argocd.tools import TOOLS as ARGOCD
from .identity.tools import build_whoami
from .promotion.tools import TOOLS as PROMOTION
from .proposals.tools import TOOLS as PROPOSALS
from .records.tools import TOOLS as RECORDS
from .redis.tools import TOOLS as REDIS
from .rollouts.tools import TOOLS as ROLLOUTS
from .tool import AnyTool

_OTHERS = (*ARGOCD, *PROMOTION, *PROPOSALS, *RECORDS, *REDIS, *ROLLOUTS)

TOOLS: tuple[AnyTool, ...] = tuple(sorted((*_OTHERS, build_whoami(_OTHERS)), key=lambda tool: tool.name))
