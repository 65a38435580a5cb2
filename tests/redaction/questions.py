"""What is asked of the product, rightly and by mistake, with marks in it; and what sources, settings and logs say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.redaction.worlds import WINDOW, WINDOW_AT

Call = tuple[str, str, Mapping[str, Any]]

READS: tuple[Call, ...] = (
    ("developer", "whoami", {}),
    ("developer", "app_list", {}),
    ("viewer", "app_list", {"text": "orders"}),
    ("developer", "app_tree", {"depth": 5}),
    ("developer", "app_get", {"app": "orders", "all_resources": True}),
    ("viewer", "app_get", {"app": "main/argocd/orders"}),
    ("developer", "app_get", {"app": "odd"}),
    ("developer", "app_get", {"app": "images"}),
    ("developer", "app_diagnose", {"app": "orders"}),
    ("approver", "app_diagnose", {"app": "estate"}),
    ("developer", "redis_overview", {"app": "orders", "source": "main"}),
    ("developer", "redis_overview", {}),
    ("developer", "redis_keys", {"app": "orders", "limit": 100}),
    ("viewer", "redis_keys", {"app": "orders", "prefix": "orders:s"}),
    *(
        ("developer", "redis_read", {"app": "orders", "key": f"orders:{name}"})
        for name in ("text", "api_token", "binary", "hash", "list", "set", "zset", "stream")
    ),
    ("viewer", "redis_read", {"app": "orders", "key": "orders:stream"}),
    *(
        ("developer", "redis_read", {"app": "orders", "key": WINDOW, "offset": WINDOW_AT + offset})
        for offset in (0, 3, 6, 9, 4 - 2_000, 12 - 2_000)
        if WINDOW_AT + offset >= 0
    ),
    ("developer", "proposal_list", {}),
    ("viewer", "proposal_list", {"app": "orders"}),
)
"""Questions about what the sources hold."""

PROPOSALS: tuple[Call, ...] = (
    (
        "developer",
        "rollout_propose",
        {
            "reason": "It does not start: ⟦text:arguments.reason⟧",
            "changes": [{"app": "orders", "kind": "restart", "workload": "Deployment/orders"}],
        },
    ),
    (
        "developer",
        "rollout_propose",
        {"reason": "The old one was better.", "changes": [{"app": "images", "kind": "set_revision", "revision": "v2"}]},
    ),
    (
        "developer",
        "rollout_propose",
        {
            "reason": "The old one was better.",
            "changes": [
                {
                    "app": "images",
                    "kind": "set_image",
                    "image": "registry.example.com/images:v2",
                    "parameter": "image.tag",
                }
            ],
        },
    ),
    (
        "developer",
        "rollout_propose",
        {"reason": "Its cluster refuses it.", "changes": [{"app": "odd", "kind": "set_revision", "revision": "v2"}]},
    ),
    (
        "developer",
        "rollout_propose",
        {"reason": "Its cluster refuses it.", "changes": [{"app": "odd", "kind": "rollback", "history_id": 1}]},
    ),
)
"""Changes that are kept as proposals, rehearsed and shown."""

ERRORS: tuple[Call, ...] = (
    ("developer", "app_get", {"app": "⟦line:arguments.app⟧"}),
    ("developer", "app_get", {"app": "orders", "⟦line:arguments.field⟧": 1}),
    ("developer", "app_list", {"environment": "⟦line:arguments.environment⟧"}),
    ("developer", "app_list", {"health": "⟦line:arguments.health⟧"}),
    ("developer", "app_list", {"label": "⟦line:arguments.label⟧"}),
    ("developer", "app_list", {"limit": "⟦word:arguments.limit⟧"}),
    ("developer", "app_list", {"cursor": "⟦word:arguments.cursor⟧"}),
    ("developer", "app_tree", {"root": "⟦line:arguments.root⟧"}),
    ("developer", "⟦word:arguments.tool⟧", {}),
    ("developer", "redis_read", {"app": "orders", "key": "orders:⟦word:arguments.key⟧"}),
    ("developer", "redis_read", {"app": "orders", "key": "⟦line:arguments.key.foreign⟧"}),
    ("developer", "redis_keys", {"app": "orders", "prefix": "⟦word:arguments.prefix⟧"}),
    ("developer", "redis_overview", {"source": "⟦word:arguments.source⟧"}),
    ("developer", "redis_overview", {"source": "away"}),
    ("developer", "redis_keys", {"app": "orders", "prefix": "away"}),
    ("developer", "proposal_get", {"proposal": "⟦word:arguments.proposal⟧"}),
    ("developer", "proposal_withdraw", {"proposal": "p-⟦word:arguments.withdrawn⟧"}),
    ("developer", "proposal_list", {"app": "⟦line:arguments.proposal_app⟧"}),
    ("approver", "record_search", {"person": "⟦line:arguments.person⟧"}),
    ("approver", "record_search", {"event": "⟦line:arguments.event⟧"}),
    ("approver", "record_search", {"since": "⟦line:arguments.since⟧"}),
    (
        "developer",
        "rollout_propose",
        {
            "reason": "To a better one.",
            "changes": [{"app": "images", "kind": "set_revision", "revision": "⟦word:arguments.revision⟧"}],
        },
    ),
    (
        "developer",
        "rollout_propose",
        {
            "reason": "To a better one.",
            "changes": [
                {"app": "orders", "kind": "set_image", "image": "registry.example.com/orders:⟦word:arguments.image⟧"}
            ],
        },
    ),
    (
        "developer",
        "rollout_propose",
        {
            "reason": "To a better one.",
            "changes": [
                {"app": "orders", "kind": "scale", "workload": "Deployment/⟦word:arguments.workload⟧", "replicas": 3}
            ],
        },
    ),
    (
        "developer",
        "rollout_propose",
        {"reason": "To a better one.", "changes": [{"app": "⟦line:arguments.change.app⟧", "kind": "sync"}]},
    ),
    (
        "developer",
        "rollout_propose",
        {"reason": "To a better one.", "changes": [{"app": "images", "kind": "⟦line:arguments.kind⟧"}]},
    ),
    ("developer", "broken_read", {"what": "unforeseen"}),
    ("developer", "broken_read", {"what": "foreseen"}),
    ("developer", "broken_read", {"what": "chained"}),
)
"""Mistakes of callers that hold a secret where it does not belong, and faults of sources whose words do."""

RECORDS: tuple[Call, ...] = (
    ("approver", "record_search", {"limit": 100}),
    ("developer", "record_search", {"person": "me", "limit": 100}),
    ("auditor", "record_search", {"event": "call", "limit": 100}),
)

REQUESTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "arborgate://app/main/argocd/orders"}),
    ("resources/read", {"uri": "arborgate://app/main/argocd/⟦word:requests.uri⟧"}),
    ("resources/read", {"uri": "⟦word:requests.scheme⟧://x"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "diagnose-app", "arguments": {"app": "orders"}}),
    ("prompts/get", {"name": "prepare-rollout", "arguments": {"app": "orders", "goal": "⟦line:requests.prompt.goal⟧"}}),
    ("prompts/get", {"name": "diagnose-app", "arguments": {"app": "⟦word:requests.prompt.app⟧"}}),
    ("prompts/get", {"name": "diagnose-app", "arguments": {"app": "orders", "⟦line:requests.prompt.argument⟧": "x"}}),
    ("prompts/get", {"name": "⟦line:requests.prompt⟧", "arguments": {}}),
    (
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "diagnose-app"},
            "argument": {"name": "app", "value": "⟦line:requests.completion⟧"},
        },
    ),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "diagnose-app"}, "argument": {"name": "app", "value": "o"}},
    ),
    ("logging/setLevel", {"level": "⟦line:requests.level⟧"}),
    ("⟦line:requests.method⟧", {}),
)

PAGES = (
    "/",
    "/apps",
    "/apps?text=⟦line:pages.text⟧",
    "/apps?environment=⟦line:pages.environment⟧",
    "/proposals",
    "/proposals?app=⟦line:pages.app⟧",
    "/proposals?state=⟦line:pages.state⟧",
    "/proposals?before=⟦line:pages.before⟧",
    "/proposals/⟦word:pages.proposal⟧",
    "/sessions",
    "/nothing/⟦word:pages.path⟧",
    "/login?next=/apps%3Ftext%3D⟦word:pages.next⟧",
    "/login/callback?code=⟦word:pages.code⟧&state=x&error=⟦line:pages.error⟧",
    "/metrics",
    "/readyz",
    "/healthz",
    "/.well-known/oauth-protected-resource",
)

HEADERS: tuple[Mapping[str, str], ...] = (
    {"Authorization": "Bearer ⟦word:headers.bearer⟧"},
    {"Authorization": "⟦word:headers.scheme⟧ x"},
    {"Authorization": "DPoP ⟦word:headers.dpop⟧", "DPoP": "⟦word:headers.proof⟧"},
    {"Cookie": "arborgate=⟦word:headers.cookie⟧"},
    {"Origin": "https://⟦word:headers.origin⟧.example.com"},
    {"Host": "⟦word:headers.host⟧"},
)

BODIES = (
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "⟦word:bodies.unfinished⟧',
    '{"jsonrpc": "2.0", "id": "1", "method": "tools/call", "params": {"nothing": "⟦word:bodies.params⟧"}}',
)

FAULT, CHAINED, FORESEEN = "⟦line:faults.message⟧", "⟦text:faults.cause⟧", "⟦line:faults.detail⟧"
LOGGED, LOGGED_ERROR, LOGGED_CAUSE = "⟦text:logs.message⟧", "⟦text:logs.error⟧", "⟦text:logs.cause⟧"
COMMENT = "⟦text:pages.comment⟧"
TITLE = "⟦line:identity.name⟧"

SETTINGS: tuple[Any, ...] = (
    {"http": {"port": "⟦line:settings.number⟧"}},
    {"http": {"⟦word:settings.key⟧": 1}},
    {"state": {"url": "⟦line:settings.url⟧", "pasword": "⟦word:settings.value⟧"}},
    {"replica": "⟦line:settings.replica⟧"},
)
POLICY = """@id("reads-⟦word:policies.id⟧")
permit (principal, action == Action::"app:raed", resource)
when { context.agent == "⟦line:policies.text⟧" };
"""
KUBECONFIG: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "⟦word:kubeconfig.context⟧",
    "users": [{"name": "⟦word:kubeconfig.user⟧", "user": {"token": "⟦named:kubeconfig.token⟧"}}],
    "contexts": [],
    "clusters": [],
}

NO_KUBECONFIG = "users: [user: token: ⟦line:kubeconfig.line⟧"

TEMPLATES: tuple[Any, ...] = (
    READS,
    PROPOSALS,
    ERRORS,
    REQUESTS,
    PAGES,
    HEADERS,
    BODIES,
    FAULT,
    CHAINED,
    FORESEEN,
    LOGGED,
    LOGGED_ERROR,
    LOGGED_CAUSE,
    COMMENT,
    TITLE,
    SETTINGS,
    POLICY,
    KUBECONFIG,
    NO_KUBECONFIG,
)
