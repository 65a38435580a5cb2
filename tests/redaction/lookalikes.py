"""What looks like a secret and is none: real platform text that must come out as it went in."""

# ruff: noqa: E501  # a table of real lines

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from .lookalike_lines import LINES, SENTENCES, WORDS
from .planted import BASE32, BASE64, DIGITS, HEX, LOWER, WORD, Draw, Kind, draw_by


def look_alikes() -> Iterator[tuple[str, Any]]:
    """A name and a JSON value each."""
    for number, text in enumerate(SENTENCES):
        yield f"sentence {number}", {"message": text}
    for number, text in enumerate(LINES):
        yield f"line {number}", {"lines": [text]}
    for number, text in enumerate(WORDS):
        yield f"words {number}", {"message": text}
    for number, text in enumerate(FILES):
        yield f"file {number}", {"text": text}
    for number, value in enumerate(OBJECTS):
        yield f"object {number}", value
    for number, name in enumerate(NAMES):
        yield f"name {name}", {name: VALUES_OF_NAMES[number % len(VALUES_OF_NAMES)]}
    for kind, make in sorted(DRAWN.items()):
        for seed in range(3):
            text = make(draw_by(seed, kind))
            yield f"{kind} {seed}", _SETTINGS[seed](text)


def _certificate(draw: Draw) -> str:
    lines = "\n".join(draw(BASE64, 64) for _ in range(6))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n{draw(BASE64, 30)}==\n-----END CERTIFICATE-----"


def _public_key(draw: Draw) -> str:
    return f"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0B{draw(BASE64, 44)}\n{draw(BASE64, 64)}\n-----END PUBLIC KEY-----"


def _uuid(draw: Draw) -> str:
    return "-".join(draw(HEX, size) for size in (8, 4, 4, 4, 12))


def _png(draw: Draw) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + draw(WORD, 60).encode("utf-16")).decode()


_SETTINGS: tuple[Callable[[str], Any], ...] = (
    lambda text: {"value": text, "count": 3},
    lambda text: {"lines": [f"2026-11-21T10:00:00Z INFO reconciled {text} in 31 ms"]},
    lambda text: {"metadata": {"annotations": {"note": json.dumps({"seen": text})}}},
)

DRAWN: dict[str, Kind] = {
    "argo tracking id": lambda draw: f"orders:apps/Deployment:payments/orders-{draw(LOWER, 4)}",
    "aws arn": lambda draw: f"arn:aws:iam::{draw(DIGITS, 12)}:role/eks-{draw(LOWER, 6)}-node",
    "base64 of bytes": lambda draw: draw(BASE64, 88),
    "base64 of json": lambda draw: base64.b64encode(
        json.dumps({"level": "info", "zone": draw(LOWER, 5)}).encode()
    ).decode(),
    "base64 of text": lambda draw: base64.b64encode(
        f"The deployment {draw(LOWER, 6)} went well, nothing to do.\n".encode()
    ).decode(),
    "build path": lambda draw: f"/home/runner/work/_temp/{_uuid(draw)}.sh",
    "bundle checksum": lambda draw: f"sha512-{draw(BASE64, 86)}==",
    "ca bundle": lambda draw: base64.b64encode(_certificate(draw).encode()).decode(),
    "certificate": _certificate,
    "cluster url": lambda draw: f"https://{draw(HEX, 32).upper()}.gr7.eu-west-1.eks.amazonaws.com",
    "consumer group": lambda draw: f"orders-consumer-{_uuid(draw)}",
    "content hash": lambda draw: f"app.{draw(HEX, 20)}.chunk.js",
    "etag": lambda draw: f'W/"{draw(HEX, 32)}-{draw(DIGITS, 3)}"',
    "gcp resource": lambda draw: (
        f"projects/acme-prod/serviceAccounts/api@acme-prod.iam.gserviceaccount.com/keys/{draw(HEX, 8)}"
    ),
    "git sha": lambda draw: draw(HEX, 40),
    "git short sha": lambda draw: draw(HEX, 8),
    "go module sum": lambda draw: f"github.com/acme/kit v1.4.2 h1:{draw(BASE64, 43)}=",
    "image by digest": lambda draw: f"ghcr.io/acme/payments@sha256:{draw(HEX, 64)}",
    "image with a telling name": lambda draw: f"registry.example/acme/{draw(LOWER, 5)}-secret:v1.{draw(DIGITS, 2)}.0",
    "image with token in its name": lambda draw: f"quay.io/acme/token-service:{draw(HEX, 7)}",
    "jaeger trace": lambda draw: f"00-{draw(HEX, 32)}-{draw(HEX, 16)}-01",
    "kafka topic": lambda draw: f"prod.payments.{draw(LOWER, 7)}.v1",
    "kubernetes name": lambda draw: f"payments-worker-{draw(HEX, 10)}-{draw(LOWER + DIGITS, 5)}",
    "lock line": lambda draw: f"requests==2.32.3 --hash=sha256:{draw(HEX, 64)}",
    "log id": lambda draw: f"req_{draw(WORD, 24)}",
    "message id": lambda draw: f"<{draw(DIGITS, 14)}.{draw(HEX, 12)}@mail.example.com>",
    "object key": lambda draw: f"s3://acme-backups/orders/2026/11/21/{draw(HEX, 32)}.tar.gz",
    "picture": _png,
    "pod ip and port": lambda draw: f"10.42.{draw('1234', 1)}.{draw('123456789', 2)}:8080",
    "public key": _public_key,
    "resource version": lambda draw: draw("123456789", 9),
    "s3 etag": lambda draw: f'"{draw(HEX, 32)}-12"',
    "semver with build": lambda draw: f"v1.29.4-rc.1+build.{draw(DIGITS, 8)}.{draw(HEX, 8)}",
    "short link": lambda draw: f"https://grafana.example.com/d/{draw(WORD, 9)}/orders?orgId=1&from=now-6h&to=now",
    "ssh public key": lambda draw: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw(BASE64, 43)} ada@laptop",
    "ssl fingerprint": lambda draw: ":".join(draw(HEX.upper()[:16], 2) for _ in range(20)),
    "stream id": lambda draw: f"17{draw(DIGITS, 11)}-{draw(DIGITS, 1)}",
    "ulid": lambda draw: "01" + draw(BASE32, 24),
    "uuid": _uuid,
    "volume handle": lambda draw: f"vol-0{draw(HEX, 16)}",
}

FILES = (
    "auth:\n  enabled: true\n  existingSecret: orders-db\n  existingSecretPasswordKey: password\n  username: orders\n",
    "env:\n- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: orders-db\n      key: password\n- name: LOG_LEVEL\n  value: info\n",
    "volumes:\n- name: tls\n  secret:\n    secretName: orders-tls\n    defaultMode: 420\n- name: token\n  projected:\n    sources:\n    - serviceAccountToken:\n        path: token\n        expirationSeconds: 3607\n",
    "imagePullSecrets:\n- name: regcred\nserviceAccountName: orders\nautomountServiceAccountToken: false\n",
    "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nspec:\n  secretStoreRef:\n    name: vault\n    kind: ClusterSecretStore\n  target:\n    name: orders-db\n",
    "kind: ConfigMap\ndata:\n  token_ttl: 3600s\n  password_policy: strong\n  max_tokens: '4096'\n",
    "tls:\n  secretName: orders-tls\n  certificate: |\n    -----BEGIN CERTIFICATE-----\n    MIIBszCCAVmgAwIBAgIUZQ8C3x0u7s2b0c1d2e3f4a5b6c7d8e9f\n    -----END CERTIFICATE-----\n",
    "[auth]\nmode = \"oidc\"\ntoken_endpoint = \"https://login.example.com/token\"\nclient_id = \"orders\"\nscopes = [\"openid\"]\n",
    "[tool.bandit]\nskips = [\"B105\", \"B106\"]  # hardcoded_password_string\n",
    "# Rotating a password\n\n1. Open the vault.\n2. Write the new password.\n3. Wait for the operator.\n",
    "| field | type | meaning |\n|---|---|---|\n| password | string | at least 12 characters |\n| token | string | from the login page |\n",
    "userlist ops\n    group admins users ada\n    user ada groups admins\n\nfrontend fe\n    bind :443 ssl crt /etc/haproxy/certs/\n",
    "global\n    log stdout format raw local0\n    maxconn 2000\n\ndefaults\n    timeout client 30s\n    cookie SRV insert indirect nocache\n",
    "package auth\n\n// Token is what a login gives.\ntype Token struct {\n\tID      string\n\tExpires time.Time\n}\n",
    "diff --git a/auth.py b/auth.py\nindex 4f0c1d9..9f2c1e7 100644\n--- a/auth.py\n+++ b/auth.py\n@@ -1,3 +1,3 @@\n-def check(password: str) -> bool:\n+def check(password: SecretStr) -> bool:\n",
    "Name:         orders\nNamespace:    payments\nLabels:       app=orders\nAnnotations:  <none>\nTokens:       <none>\nEvents:       <none>\n",
    "Traceback (most recent call last):\n  File \"/app/main.py\", line 12, in <module>\n    token = load_token()\n  File \"/app/auth.py\", line 7, in load_token\n    raise NoToken()\nauth.NoToken: no token at /var/run/token\n",
    "user default on nopass ~* &* +@all\nuser worker on nopass ~jobs:* +@read\n",
    "machine git.example.com\n  login deploy\n",
    "registry=https://npm.example.com/\nalways-auth=true\n",
    "spec:\n  rules:\n  - secretKeyRef: {name: a, key: b}\n  tokenEndpoint: https://login.example.com/token\n  passwordPolicy: {minLength: 12}\n",
    "path \"secret/data/payments/*\" {\n  capabilities = [\"read\"]\n}\n",
    "<p>The <strong>password</strong> is kept in the vault; ask <ac:link><ri:user ri:account-id=\"557058\"/></ac:link>.</p>",
    "<table><tr><th>Token</th><td>see the vault</td></tr><tr><th>Owner</th><td>payments</td></tr></table>",
    "<input type=\"password\" name=\"password\" autocomplete=\"current-password\" required>",
    "checksum/secret: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nchecksum/config: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n",
)  # fmt: skip

OBJECTS: tuple[Any, ...] = (
    {"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "orders-db", "key": "password"}}}]},
    {"env": [{"name": "TOKEN_FILE", "value": "/var/run/secrets/tokens/api"}, {"name": "PASSWORD_MIN_LENGTH", "value": "12"}]},
    {"env": [{"name": "API_TOKEN", "value": "$(API_TOKEN_FROM_VAULT)"}]},
    {"envFrom": [{"secretRef": {"name": "orders-env"}}]},
    {"volumes": [{"name": "tls", "secret": {"secretName": "orders-tls", "items": [{"key": "tls.crt", "path": "tls.crt"}], "defaultMode": 420}}]},
    {"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "token"}}]}}]},
    {"imagePullSecrets": [{"name": "regcred"}, {"name": "mirror"}], "serviceAccountName": "orders"},
    {"kind": "ServiceAccount", "secrets": [{"name": "orders-token-x7k2p"}], "automountServiceAccountToken": True},
    {"kind": "Secret", "metadata": {"name": "orders-db", "namespace": "payments"}, "type": "Opaque", "status": "Synced"},
    {"kind": "Secret", "name": "orders-db", "namespace": "payments", "health": "Healthy", "version": "v1", "group": ""},
    {"resources": [{"kind": "Secret", "name": "orders-tls", "status": "OutOfSync"}, {"kind": "Service", "name": "orders"}]},
    {"type": "object", "properties": {"password": {"type": "string", "minLength": 12}, "user": {"type": "string"}}, "required": ["user", "password"]},
    {"properties": {"token": {"type": ["string", "null"], "description": "from the login page"}, "secret": {"$ref": "#/definitions/SecretRef"}}},
    {"components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}}},
    {"token_endpoint": "https://login.example.com/token", "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"]},
    {"usage": {"prompt_tokens": 812, "completion_tokens": 120, "total_tokens": 932, "max_tokens": 4096, "tokens": 932}},
    {"password": "", "token": None, "secret": False, "apiKey": ""},
    {"passwordPolicy": {"minLength": 12, "history": 5}, "tokenTTL": "1h", "tokenType": "Bearer", "expires_in": 3600},
    {"auth": {"enabled": True, "existingSecret": "orders-db", "mode": "oidc", "username": "orders"}},
    {"auth": "oidc", "authorization": {"mode": "rbac"}, "credentials": "none"},
    {"credentials": {"secretName": "orders-db", "key": "password"}},
    {"secretKeyRef": {"name": "a", "key": "b", "optional": True}, "passwordSecretRef": {"name": "a", "key": "b"}},
    {"data": [{"secretKey": "db-password", "remoteRef": {"key": "prod/orders/db", "property": "password"}}]},
    {"secretStoreRef": {"name": "vault", "kind": "ClusterSecretStore"}, "refreshInterval": "1h", "secretName": "orders"},
    {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "orders:apps/Deployment:payments/orders", "checksum/secret": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}},
    {"metadata": {"uid": "7d1c2a9e-3f64-4b0e-9a5d-8c7b6a5f4e3d", "resourceVersion": "918273645", "generation": 14}},
    {"metadata": {"labels": {"app.kubernetes.io/name": "vault-secrets-operator", "helm.sh/chart": "vault-secrets-operator-0.9.0"}}},
    {"keys": ["user:7:name", "orders:2026-11-21", "auth:token:count", "password-reset:queue"]},
    {"keys": [{"key": "auth:token:count", "type": "string", "ttl_seconds": 30}, {"key": "cache:secret-santa", "type": "hash"}]},
    {"reply": ["maxmemory", "0", "appendonly", "yes", "save", "3600 1"]},
    {"args": ["serve", "--token-file", "/var/run/token", "--password-file=/run/secrets/db", "--max-tokens", "4096"]},
    {"command": ["sh", "-c", "exec app --db-password=$(DB_PASSWORD) --port=8080"]},
    {"columns": ["id", "password", "token", "created_at"], "rows": 18},
    {"scopes": ["token:read", "secret:list", "openid"], "claims": ["sub", "auth_time"]},
    {"roles": [{"resources": ["secrets", "configmaps"], "verbs": ["get", "list"]}]},
    {"rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["orders-db"], "verbs": ["get"]}]},
    {"kind": "Component", "metadata": {"name": "token-service", "annotations": {"backstage.io/techdocs-ref": "dir:.", "github.com/project-slug": "acme/token-service"}}},
    {"spec": {"type": "service", "owner": "identity", "providesApis": ["token-api", "password-api"], "lifecycle": "production"}},
    {"title": "How we rotate passwords", "space": "OPS", "version": 7, "excerpt": "The password of each database is rotated by the operator."},
    {"images": ["ghcr.io/acme/secret-sync:v1.4.2", "registry.example/app-secret:v1", "vault:1.17.2", "bitnami/sealed-secrets-controller:0.27.1"]},
    {"image": "registry.example:5000/acme/auth-token:2026.11.21-4f0c1d9"},
    {"parameters": [{"name": "auth.existingSecret", "value": "orders-db"}, {"name": "image.tag", "value": "v1.4.2"}]},
    {"status": {"sync": {"revision": "4f0c1d9e7b5a3c2e1f0d9b8a7c6e5d4f3b2a1c0d"}, "history": [{"id": 7, "revision": "9f2c1e7a5b3d8c6f4e2a1b0c9d8e7f6a5b4c3d2e"}]}},
    {"jwks": {"keys": [{"kty": "EC", "crv": "P-256", "kid": "7f3a9c21", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}},
    {"kid": "2026-11", "alg": "RS256", "publicKey": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE", "key_id": "7f3a9c21"},
    {"cookieName": "sid", "cookieDomain": "example.com", "sessionTimeout": 3600, "cookie_secure": True},
    {"pass": 12, "fail": 0, "skip": 3},
    {"author": "Ada", "authority": "ca.example.com", "authenticated": True, "authors": ["Grace"]},
    {"keyspace": "db0", "keys_total": 18273, "monkey": "george", "keyboard": "de", "hotkeys": ["ctrl+k"]},
    {"digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 18273645, "mediaType": "application/vnd.oci.image.manifest.v1+json"},
    {"integrity": "sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC"},
    {"estimated_tokens": 812, "budget_tokens": 4000},
    {"template": "Dear {{ .User }}, your password expires on {{ .Date }}."},
    {"note": "größer — 数据库 ✓: das Passwort wurde geändert"},
    {"note": "Пароль был изменён вчера."},
    {"url": "https://console.cloud.example/iam/service-accounts/keys?project=acme-prod&authuser=1"},
    {"webhook": {"url": "https://ci.example.com/hooks/argo", "events": ["push"], "secretRef": {"name": "hook"}}},
    {"sealed": {"kind": "SealedSecret", "spec": {"template": {"metadata": {"name": "orders-db"}, "type": "Opaque"}}}},
    {"tlsSecret": {"name": "orders-tls", "namespace": "payments"}, "credentialsSecret": {"name": "aws"}},
    {"issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}, "privateKeySecretRef": {"name": "acme-key"}},
    {"privateKeyAlgorithm": "ECDSA", "privateKeySize": 256},
    {"x509": {"serial": "04:8f:9a:21:7c", "keyUsage": ["digitalSignature"], "sans": ["orders.example.com"]}},
    {"stack": "at TokenService.refresh (auth/token.ts:118:9)\n    at async login (auth/login.ts:44:3)"},
    {"sql": "UPDATE users SET password_hash = $1, token_version = token_version + 1 WHERE id = $2"},
    {"metric": "http_requests_total{path=\"/token\",code=\"200\"} 18273"},
    {"labels": {"secret.reloader.stakater.com/reload": "orders-db", "vault.hashicorp.com/agent-inject": "true"}},
)  # fmt: skip

NAMES = (
    "accessKeyId", "allowPasswordAuthMethods", "apiKeyName", "apiKeyRotationDays", "authMethod", "authority",
    "automountTokenMode", "clientSecretName", "cookieName", "credentialProvider", "credentialsFile", "credentialsSecretName",
    "dbPasswordSecretName", "existingSecret", "existingSecretPasswordKey", "has_password_policy", "keyName", "key_id",
    "maxTokenAge", "max_tokens_limit", "password_changed_at", "passwordField", "passwordFile", "passwordHintUrl",
    "passwordPolicy", "passwordPrompt", "passwordSecretName", "publicKey", "public_key_path", "secretClass", "secretCount",
    "secretKeyRef", "secretName", "secretNamespace", "secretProviderClass", "secretRef", "secretRotation", "secretStore",
    "secretType", "secretVersion", "secrets_path", "signingKeyAlgorithm", "sshKeyPath", "tokenAudience", "tokenEndpoint",
    "tokenExpiry", "tokenFormat", "tokenIssuer", "tokenLifetime", "tokenReviewUrl", "tokenTTL", "tokenType", "token_bucket",
    "token_url", "tokenizer", "tokensPerMinuteLimit", "usernameAndPasswordRequired", "vaultTokenPath",
)  # fmt: skip
"""Names of fields about secrets."""

VALUES_OF_NAMES = (
    "orders-db",
    "https://login.example.com/token",
    "3600s",
    "strong",
    "/run/secrets/db",
    "RS256",
    "prod/orders",
)
