"""Where a source can hold a text: Kubernetes objects, Helm values, logs, events, Git, Redis, HAProxy, Confluence and more."""

# ruff: noqa: E501  # a table, one place a line

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import yaml

from .planted import pack_release

Place = Callable[[str], Any]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _indent(text: str, by: int) -> str:
    return text.replace("\n", "\n" + " " * by)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")


def _secret_object(text: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "orders-db"},
        "data": {"dsn.txt": _base64(text), **data},
    }


def _deployment(env: list[dict[str, Any]]) -> dict[str, Any]:
    container = {"name": "api", "image": "registry.example/acme/api:v1.4.2", "env": env}
    return {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}}


ANYWHERE: dict[str, Place] = {
    "annotation with JSON": lambda s: {
        "kind": "ConfigMap",
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": {"app.conf": f"upstream {s}\n"}})}},
    },
    "argo cd condition": lambda s: {"conditions": [{"type": "SyncError", "message": f"one or more objects failed to apply: value {s} is invalid"}]},
    "argument of a container": lambda s: {"containers": [{"name": "job", "args": ["run", "--upstream", s, "--verbose"]}]},
    "base64 in a config map": lambda s: {"kind": "ConfigMap", "binaryData": {"settings": _base64(f"# settings of the service\nupstream = {s}\n")}},
    "commit message": lambda s: {"commits": [{"sha": "4f0c1d9e7b", "subject": "Remove what should not be here", "body": f"It was {s} until today.\n\nSigned-off-by: Ada <ada@example.com>"}]},
    "confluence page": lambda s: {"body": {"storage": {"value": f"<p>Use this one: <code>{s}</code></p><ac:structured-macro ac:name=\"code\"><ac:plain-text-body><![CDATA[curl {s}]]></ac:plain-text-body></ac:structured-macro>"}}},
    "config map file": lambda s: {"kind": "ConfigMap", "data": {"application.yaml": f"server:\n  port: 8080\nupstream:\n  value: {_indent(s, 4)}\n"}},
    "env value": lambda s: _deployment([{"name": "UPSTREAM", "value": s}]),
    "error message": lambda s: {"error": f"request failed: 401 Unauthorized: bad credential {s} (attempt 3)"},
    "event message": lambda s: {"events": [{"reason": "Failed", "message": f"Error: failed to start container: exec: {s}: not found", "count": 3}]},
    "haproxy log line": lambda s: {"lines": [f'10.0.3.4:51822 [21/Nov/2026:10:02:11.120] fe~ api/api-1 0/0/1/12/13 200 812 - - ---- "GET /hook/{s} HTTP/1.1"']},
    "helm values": lambda s: {"source": {"helm": {"values": f"replicaCount: 2\nextra:\n  note: \"{_one_line(s)}\"\nimage:\n  tag: v1\n"}}},
    "json in a log line": lambda s: {"log": "2026-11-21T10:00:00Z INFO sent " + json.dumps({"level": "info", "payload": {"id": 7, "what": s}})},
    "key of a mapping": lambda s: {"labels": {s: "x"}},
    "list item": lambda s: {"items": ["one", s, "three"]},
    "log line": lambda s: {"lines": [f"2026-11-21T10:02:11.120Z WARN http client: retrying with {s} after 3 s"]},
    "quoted in prose": lambda s: {"text": f"Ask for '{s}' (or \"{s}\"), please."},
    "redis hash": lambda s: {"key": "settings:orders", "type": "hash", "items": [{"name": "upstream", "value": s}]},
    "redis list": lambda s: {"key": "queue:mails", "type": "list", "items": [{"value": json.dumps({"to": "ada", "context": {"link": s}})}]},
    "redis string": lambda s: {"key": "cache:upstream", "type": "string", "items": [{"value": s}]},
    "shell trace": lambda s: {"output": f"+ set -x\n+ export UPSTREAM='{s}'\n+ ./run\n"},
    "stack trace": lambda s: {"trace": f'Traceback (most recent call last):\n  File "/app/main.py", line 12, in <module>\n    connect("{s}")\nValueError: bad argument'},
    "text with other letters": lambda s: {"note": f"Größe prüfen – Schlüssel ‚{s}‘ ist überall gültig ✓"},
    "url path": lambda s: {"url": f"https://hooks.example.com/in/{quote(s, safe='')}/x"},
    "url query": lambda s: {"link": f"https://api.example.com/v1/items?page=2&state={quote(s, safe='')}&limit=10"},
}  # fmt: skip
"""Where only the form of a secret gives it away."""

TELLING: dict[str, Place] = {
    ".env file": lambda s: {"file": f"APP_ENV=production\nDB_HOST=db\nDB_PASSWORD={s}\nLOG_LEVEL=info\n"},
    ".netrc": lambda s: {"file": f"machine git.example.com\n  login deploy\n  password {s}\n"},
    ".npmrc": lambda s: {"file": f"registry=https://npm.example.com/\n//npm.example.com/:_authToken={s}\n"},
    ".pgpass": lambda s: {"file": f"db.example.com:5432:orders:app:{s}"},
    ".pypirc": lambda s: {"file": f"[distutils]\nindex-servers =\n    internal\n\n[internal]\nrepository = https://pypi.example.com\nusername = ci\npassword = {s}\n"},
    "acl setuser": lambda s: {"lines": [f"ACL SETUSER worker on >{s} ~jobs:* +@read"]},
    "amqp url": lambda s: {"message": f"connecting to amqp://worker:{quote(s, safe='')}@mq.example.com:5672/jobs"},
    "auth in docker config": lambda s: {"auths": {"registry.example.com": {"auth": _base64(f"robot:{s}"), "email": "ci@example.com"}}},
    "authorization basic": lambda s: {"request": f"GET /v2/ HTTP/1.1\r\nHost: registry.example.com\r\nAuthorization: Basic {_base64(f'robot:{s}')}\r\nAccept: */*\r\n"},
    "authorization bearer in a list": lambda s: {"headers": [["Accept", "*/*"], ["Authorization", f"Bearer {s}"]]},
    "cli option": lambda s: {"command": f"helm upgrade orders ./chart --set replicas=2 --set auth.password={s} --wait"},
    "cli option apart": lambda s: {"command": f"vaultctl login --username ada --password {s} --quiet"},
    "cli options as a list": lambda s: {"args": ["serve", "--db-password", s, "--port", "8080"]},
    "config get": lambda s: {"reply": ["maxmemory", "0", "requirepass", s, "port", "6379"]},
    "cookie header": lambda s: {"lines": [f"> GET / HTTP/1.1\n> Cookie: theme=dark; sid={quote(s, safe='')}\n> Accept: */*"]},
    "curl user": lambda s: {"text": f"curl -sS -u deploy:{s} https://nexus.example.com/status"},
    "docker config secret": lambda s: _secret_object("x", **{".dockerconfigjson": _base64(json.dumps({"auths": {"r.example": {"password": s}}}))}),
    "env value by name": lambda s: _deployment([{"name": "LOG_LEVEL", "value": "info"}, {"name": "STRIPE_API_KEY", "value": s}]),
    "env value in YAML": lambda s: {"manifest": f"containers:\n- name: api\n  env:\n  - name: REDIS_PASSWORD\n    value: \"{s}\"\n  - name: PORT\n    value: \"80\"\n"},
    "go struct in a log": lambda s: {"lines": [f"dial with &{{Addr:redis:6379 Username:app Password:{s} DB:0}}"]},
    "haproxy stats auth": lambda s: {"config": f"listen stats\n    bind :8404\n    stats enable\n    stats auth admin:{s}\n    stats uri /\n"},
    "haproxy userlist": lambda s: {"config": f"userlist ops\n    group g1 users ada\n    user ada insecure-password {s} groups g1\n"},
    "hcl variable": lambda s: {"file": f'resource "db" "main" {{\n  engine   = "postgres"\n  password = "{s}"\n}}\n'},
    "helm parameter": lambda s: {"helm": {"parameters": [{"name": "redis.auth.password", "value": s, "forceString": True}]}},
    "helm release": lambda s: _secret_object("x", release=_base64(pack_release(s))),
    "helm release in a text": lambda s: {"key": "sh.helm.release.v1.orders.v3", "value": pack_release(s)},
    "helm values by name": lambda s: {"values": {"auth": {"enabled": True, "username": "app", "password": s}, "replicas": 2}},
    "html form": lambda s: {"page": f'<form><input type="text" name="user" value="ada"/><input type="password" name="password" value="{s}"/></form>'},
    "ini file": lambda s: {"file": f"[database]\nhost = db\nuser = app\npassword = {s}\n\n[log]\nlevel = info\n"},
    "jaas": lambda s: {"conf": f'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="app" password="{s}";'},
    "jdbc query": lambda s: {"url": f"jdbc:postgresql://db:5432/orders?user=app&password={quote(s, safe='')}&ssl=true"},
    "json in json": lambda s: {"spec": json.dumps({"config": json.dumps({"client_secret": s, "client_id": "orders"})})},
    "kubeconfig": lambda s: {"kubeconfig": yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": [{"name": "ci", "user": {"token": s}}], "clusters": [{"name": "c", "cluster": {"server": "https://k8s.example.com"}}]})},
    "kubeconfig as data": lambda s: {"users": [{"name": "ci", "user": {"exec": {"command": "login", "env": [{"name": "OIDC_CLIENT_SECRET", "value": s}]}}}]},
    "last applied secret": lambda s: {"kind": "ConfigMap", "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"kind": "Secret", "stringData": {"x": s}})}}},
    "list of secrets": lambda s: {"kind": "List", "items": [{"kind": "ConfigMap", "data": {"a": "b"}}, {"kind": "Secret", "stringData": {"blob": s}}]},
    "log field": lambda s: {"lines": [f"level=info msg=login user=ada password={s} ip=10.0.0.7"]},
    "log in json": lambda s: {"lines": [json.dumps({"level": "debug", "msg": "config", "redis": {"addr": "r:6379", "password": s}})]},
    "mongodb url": lambda s: {"uri": f"mongodb+srv://app:{quote(s, safe='')}@cluster0.example.net/orders?retryWrites=true"},
    "mysql command": lambda s: {"text": f"kubectl exec db-0 -- mysql -uroot -p{s} orders"},
    "plain sentence": lambda s: {"comment": f"the password is {s} by the way"} if any(c.isdigit() for c in s) else {"comment": f"password: {s}"},
    "properties": lambda s: {"file": f"spring.datasource.url=jdbc:h2:mem\nspring.datasource.password={s}\nserver.port=8080"},
    "python repr": lambda s: {"lines": [f"config = {{'host': 'db', 'password': {s!r}, 'port': 5432}}"]},
    "query token": lambda s: {"lines": [f"GET /hook?access_token={quote(s, safe='')}&x=1 HTTP/1.1"]},
    "redis hash field": lambda s: {"key": "session:91", "items": [{"name": "refresh_token", "value": s}]},
    "redis monitor": lambda s: {"lines": [f'1700000000.123456 [0 10.0.0.1:5000] "AUTH" "app" "{s}"']},
    "redis url": lambda s: {"env": [{"name": "CACHE", "value": f"redis://:{quote(s, safe='')}@redis:6379/0"}]},
    "redis.conf": lambda s: {"config": f"port 6379\nrequirepass {s}\nmasterauth {s}\nmaxmemory 1gb\n"},
    "secret data": _secret_object,
    "secret in YAML": lambda s: {"manifest": f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ntype: Opaque\ndata:\n  blob: {_base64(s)}\n"},
    "secret in YAML before its kind": lambda s: {"manifest": f"apiVersion: v1\nstringData:\n  blob: |\n    {s}\nkind: Secret\nmetadata:\n  name: db\n"},
    "secret string data": lambda s: {"kind": "Secret", "stringData": {"plain": s}},
    "set-cookie header": lambda s: {"headers": {"Set-Cookie": [f"sid={quote(s, safe='')}; Path=/; HttpOnly"]}},
    "sql": lambda s: {"statement": f"CREATE USER app WITH PASSWORD '{s}' VALID UNTIL 'infinity'"},
    "sqlalchemy url": lambda s: {"error": f"OperationalError: could not connect: postgresql+psycopg2://app:{quote(s, safe='')}@db:5432/orders"},
    "telling mapping": lambda s: {"credentials": {"first": s, "region": s}},
    "toml": lambda s: {"file": f'[auth]\nmode = "token"\nsigning_key = "{s}"\n'},
    "url encoded form": lambda s: {"body": f"grant_type=client_credentials&client_id=a&client_secret={quote(s, safe='')}"},
    "url within a url": lambda s: {"link": "https://login.example.com/?next=" + quote(f"https://app.example.com/cb?token={s}&x=1", safe="")},
    "x-api-key": lambda s: {"headers": {"X-Api-Key": s, "Accept": "*/*"}},
    "xml": lambda s: {"config": f"<server><id>nexus</id><username>ci</username><password>{s.replace('&', '&amp;')}</password></server>"},
    "yaml block": lambda s: {"values": f"db:\n  user: app\n  password: |-\n    {s}\n  host: db\n"},
    "yaml quoted": lambda s: {"values": f"redis:\n  auth:\n    password: '{s}' # rotated in March\n"},
    "yaml value": lambda s: {"values": f"global:\n  postgresql:\n    auth:\n      postgresPassword: {s}\n      database: orders\n"},
}  # fmt: skip
"""Where a name, or the structure, gives away whatever stands there."""

LINES: tuple[str, ...] = (
    '2026-11-21 10:00:00,123 DEBUG [main] o.h.c.j.i.DriverManager - properties: {user=app, password=%, autocommit=true}',
    "ERROR: password authentication failed; tried with password '%'",
    'Using DB password: %',
    '{"msg":"login","body":"user=ada&password=%&remember=1"}',
    '--set-string global.redis.password=%',
    "curl -H 'X-Vault-Token: %' https://vault/v1/x",
    'curl -H "PRIVATE-TOKEN: %" https://gitlab/api',
    'spring.redis.password: %',
    'REDISCLI_AUTH=% redis-cli ping',
    'MYSQL_PWD=% mysqldump orders',
    'sqlcmd -S db -U sa -P %',
    "psql 'host=db user=app password=% dbname=o'",
    'Server=tcp:db,1433;User ID=sa;Password=%;Encrypt=True',
    'jdbc:sqlserver://db:1433;user=sa;password=%',
    'amqps://guest:%@mq/',
    'smtp://mailer:%@smtp.example.com:587',
    'ftp://ada:%@files.example.com/x',
    'https://x-access-token:%@github.com/acme/a.git',
    '[remote "origin"]\n\turl = https://ci:%@git.example.com/a.git',
    '<property name="password" value="%"/>',
    "<entry key='db.password'>%</entry>",
    '<add name="Db" connectionString="Server=x;Pwd=%;" />',
    'kubectl create secret generic x --from-literal=password=%',
    'helm install x --set auth.rootPassword=%,auth.user=app',
    'ENV ADMIN_PASSWORD=%',
    '- ADMIN_PASSWORD=%',
    "ALTER USER app IDENTIFIED BY '%'",
    "CREATE ROLE app LOGIN PASSWORD '%'",
    'requirepass "%"',
    'user alice on >% ~* +@all',
    'CONFIG SET requirepass %',
    '1) "requirepass"\n2) "%"',
    'bind-pw: %',
    'bindPassword: %',
    'ldap.bind_password = %',
    "smtp_auth_password: '%'",
    "slack_api_url: 'https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/%ABCD'",
    'basic_auth:\n  username: prom\n  password: %',
    'remote_write:\n- url: https://x\n  bearer_token: %',
    'authorization:\n  type: Bearer\n  credentials: %',
    'storage:\n  s3:\n    secret_access_key: %',
    'oauth2:\n  client_secret: %',
    'cookie_secret: %',
    'OAUTH2_PROXY_COOKIE_SECRET=%',
    'encryption_key=%',
    "DJANGO_SECRET_KEY='%'",
    'SECRET_KEY_BASE=%',
    'APP_KEY=base64:%',
    'JWT_SECRET=%',
    'session.secret=%',
    'webhook_secret: %',
    'license_key: %',
    'rediss://default:%@cache.example.com:6380',
    'nats://user:%@nats:4222',
    'clickhouse://default:%@ch:9000/db',
    'ldap://cn=admin:%@ldap',
    'Set-Cookie: JSESSIONID=%; Path=/; Secure',
    'cookie=_session_id=%',
    'authorization=[Bearer %]',
    'Authorization: token %',
    'Authorization: ApiKey %',
    'https://acct.blob.core.windows.net/c/b?sv=2022&sr=b&sig=%abc%3D&se=2026',
    'https://api.example.com/?api_key=%',
    'wss://s/?access_token=%',
    'https://x/?apikey=%#a',
    'export AWS_SECRET_ACCESS_KEY=%%',
    'aws_session_token = %',
    'token "%" is not valid',
    'invalid api key %',
    "secret='%'",
    'passwd: %',
    'pass=%',
    'pw=%',
    'user ada password % groups g1',
    'machine h login a password %',
    'db.example.com:5432:orders:app:%',
    '//registry.shop.test/:_authToken=%',
    '_auth=%',
    'always-auth=true\n_password=%',
    'identitytoken: %',
    'id_token=%',
    'code=abc&refresh_token=%',
    'client-key-data: %%',
    '  token: %\n',
    'otpauth://totp/x?secret=%',
    'PGPASSWORD=% psql',
    'pgpass=%',
    '"password" : "%"',
    "'password': u'%'",
    'password=>"%"',
    ":password => '%'",
    'password:"%"',
    'Password : %',
    'DB_PASS: %',
    'dbPwd=%',
    'adminPwd: %',
    'rootpw=%',
    'ansible_become_pass: %',
    'ansible_ssh_pass=%',
    'vault_password: %',
    'KEYSTORE_PASSWORD=%',
    '-Djavax.net.ssl.keyStorePassword=%',
    '-Dspring.datasource.password=% -jar x',
    'tls-key-file-pass %',
    'sentinel auth-pass mymaster %',
    'masteruser x\nmasterauth %',
)  # fmt: skip
"""Lines of files, logs and commands in which `%` is a secret that only the words around it give away."""
