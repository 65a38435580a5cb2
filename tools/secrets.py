"""What secrets look like: names of fields that hold one, and shapes of well-known kinds, matched in linear time."""

from __future__ import annotations

from typing import Any

import re2

_PLAIN_NAME = (
    r"(?i)(?:^|[^a-z])(?:pass|pwd)$|passw(?:or)?d|passphrase|passwd|secret|token|credential|(?:api|access|account|"
    r"encryption|master|private|signing|ssh)[._-]?key|auth(?:orization)?$|^cookie$|set-cookie|requirepass|masterauth|"
    r"connection[._-]?string|\bdsn$|kubeconfig|dockerconfigjson"
)
_LOOK_ALIKE = (
    r"(?i)(?:name|names|ref|refs|namespace|endpoint|url|uri|type|types|count|counts|length|limit|budget|budgets|expiry|"
    r"expires|expires_in|expiration|ttl|age|algorithm|id|ids|enabled|required|policy|method|methods|provider|store|path|"
    r"file|mode|version|rotation|digest|supported|class|kind|public[._-]?key)$|^(?:max|min|num|n)[._-]?tokens|^tokeni[sz]"
)

SHAPES: tuple[tuple[str, str], ...] = (
    (
        "private_key",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|$)",
    ),
    ("jwt", r"\bey[JK][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    ("aws_key_id", r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}\b"),
    ("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("gitlab_token", r"\bgl(?:pat|ptt|dt|rt|soat|cbt|agent)-[A-Za-z0-9_.-]{16,}"),
    ("slack_token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("slack_webhook", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"),
    ("stripe_key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("google_key", r"\bAIza[A-Za-z0-9_-]{30,}"),
    ("google_token", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("model_key", r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}"),
    ("package_token", r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|dckr_pat_[A-Za-z0-9_-]{20,})"),
    ("vault_token", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
    ("cloud_token", r"\b(?:do[opr]_v1_[a-f0-9]{40,}|dapi[a-f0-9]{32}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    ("azure_key", r"(?i)\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/=]{20,}"),
    ("password_hash", r"\$(?:2[aby]|5|6|y|argon2id?)\$[A-Za-z0-9./$=,+-]{20,}"),
    ("url_password", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@\"']*:[^\s/\"']+@"),
    ("authorization", r"(?i)\b(?:bearer|basic|dpop)\s+[A-Za-z0-9._~+/=-]{16,}"),
    (
        "assignment",
        (
            # Behind the name: `=` or `:`, then all of a quoted text (of a YAML block, its first word), or one word.
            r"(?i)\b[a-z0-9_.-]*(?:password|passwd|passphrase|secret|(?:api|access|account|encryption|master|private|"
            r"signing|ssh)[_.-]?key|(?:auth|access|refresh)[_-]?token)\\*[\"']?\s*[=:]\s*(?:[|>][+-]?\s+)?"
            r"(?:\\*\"[^\"]+|\\*'[^']+|[^\s\"',;&}\]]{4,})"
            r"|\b(?:[a-z0-9_.-]*_(?:pass|pwd)|(?:[a-z0-9_.-]*[_.-])?token)=[^\s\"',;&}\]]{4,}"
        ),
    ),
)
"""Kind and pattern (RE2 syntax, linear in the text whatever it is)."""

_NAME = re2.compile(_PLAIN_NAME)
_NOT_NAME = re2.compile(_LOOK_ALIKE)
_ANY = re2.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in SHAPES))


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret (`dbPassword`), and not something about one (`secretName`)."""
    return _NAME.search(name) is not None and _NOT_NAME.search(name) is None


def redact(text: str) -> tuple[str, int]:
    """The text with every secret of a known shape replaced by `[redacted:<kind>]`, and how many there were."""
    count = 0

    def replace(match: Any) -> str:
        nonlocal count
        count += 1
        return f"[redacted:{match.lastgroup}]"

    if _ANY.search(text) is None:
        return text, 0
    return _ANY.sub(replace, text), count


def holds_secret(text: str) -> bool:
    """Whether the text holds a secret of a known shape."""
    return _ANY.search(text) is not None
