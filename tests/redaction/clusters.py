"""What clusters really hold, written down without looking at the corpus: secrets (§) in their places."""

# ruff: noqa: E501  # a table, one text a line

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from .corpus import Planted
from .planted import draw_secret

_LETTERS = string.ascii_letters + string.digits
_PEOPLES = ("Winter2031!", "kaffee-um-neun", "Tr0ub4dor_3", "liverpool1892", "Changeme-now1", "s0mmerregen")


def _draw(kind: str, source: random.Random) -> str:
    draw = _DRAWN.get(kind)
    return draw_secret(kind, source.randrange(1 << 16)) if draw is None else draw(source)


def _draw_hex(source: random.Random, length: int) -> str:
    return "".join(source.choices("0123456789abcdef", k=length))


_DRAWN: dict[str, Callable[[random.Random], str]] = {
    "people": lambda source: source.choice(_PEOPLES),
    "random": lambda source: "".join(source.choices(_LETTERS, k=24)),
    "hex": lambda source: _draw_hex(source, 40),
    "hex32": lambda source: _draw_hex(source, 32),
    "hex64": lambda source: _draw_hex(source, 64),
    "base64": lambda source: base64.b64encode(source.randbytes(32)).decode(),
    "uuid": lambda source: str(uuid.UUID(bytes=source.randbytes(16), version=4)),
}


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


_WRAPPINGS: dict[str, Callable[[str], str]] = {
    "{quoted}": lambda secret: quote(secret, safe=""),
    "{alone}": _encode,
    "{of_user}": lambda secret: _encode(f"bot:{secret}"),
    "{of_env}": lambda secret: _encode(f"DB_USER=shop\nDB_PASSWORD={secret}\nDB_HOST=db\n"),
    "{of_saml}": lambda secret: _encode(
        f'<samlp:Response ID="_{secret}"><saml:NameID>ada</saml:NameID></samlp:Response>'
    ),
}
"""How a secret stands in some of the texts; there, what stands is the secret to look for."""

PLANTED: tuple[tuple[str, str, Any], ...] = (
    # kubectl describe and its neighbours
    ("describe pod, environment", "people", "    Environment:\n      DB_HOST:      orders-db\n      DB_PASSWORD:  §\n      LOG_LEVEL:    info\n"),
    ("describe pod, literal token", "random", "    Environment:\n      SENTRY_AUTH_TOKEN:         §\n      HTTP_PROXY:                 http://proxy:3128\n"),
    ("describe configmap", "people", "Name:         orders-config\nNamespace:    shop\n\nData\n====\nspring.datasource.password:\n----\n§\n\nspring.datasource.username:\n----\norders\n"),
    ("describe configmap, file", "people", "Data\n====\napplication.properties:\n----\nserver.port=8080\nspring.redis.password=§\n\nBinaryData\n====\n"),
    ("describe pod, args", "people", "    Args:\n      --db-user\n      orders\n      --db-password\n      §\n      --verbose\n"),
    ("describe pod, equals args", "random", "    Args:\n      --listen=:8080\n      --api-token=§\n    State: Running"),
    ("describe pod, command", "people", "    Command:\n      sh\n      -c\n      PGPASSWORD=§ pg_dump -h db orders\n"),
    ("event with a command", "people", {"reason": "FailedPostStartHook", "message": "Exec lifecycle hook ([mysql -uroot -p§ -e 'select 1']) for Container \"db\" failed"}),
    ("liveness probe event", "people", {"reason": "Unhealthy", "message": "Liveness probe failed: Get \"http://health:§@10.2.0.9:8080/healthz\": context deadline exceeded"}),
    ("probe command", "people", {"exec": {"command": ["redis-cli", "-a", "§", "ping"]}}),
    ("probe header", "random", {"httpGet": {"path": "/healthz", "httpHeaders": [{"name": "X-Health-Token", "value": "§"}]}}),
    ("env of a container", "people", {"env": [{"name": "POSTGRES_PASSWORD", "value": "§"}]}),
    ("env of a container, prefixed", "random", {"env": [{"name": "APP__Jwt__SigningKey", "value": "§"}]}),
    ("env, ASP.NET connection string", "people", {"env": [{"name": "ConnectionStrings__Default", "value": "Server=db;Database=shop;User Id=sa;Password=§;Encrypt=true"}]}),
    ("annotation of basic auth", "random", {"annotations": {"ingress.example/auth-basic-password": "§"}}),
    ("last applied", "people", {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"stringData":{"pw":"§"}}\n'}}),
    ("secret object", "people", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"anything": "{alone}"}}),
    ("bootstrap token", "random", {"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "stringData": {"token-id": "07401b", "usage-bootstrap-signing": "true", "token-secret": "§"}}),
    ("kubeconfig user", "random", "users:\n- name: admin\n  user:\n    token: §\n"),
    ("kubeconfig client key", "base64", "users:\n- name: admin\n  user:\n    client-certificate-data: LS0tLS1CRUdJTi==\n    client-key-data: §\n"),
    ("kubeconfig basic", "people", {"users": [{"name": "a", "user": {"username": "admin", "password": "§"}}]}),
    ("kubectl create secret", "people", "$ kubectl create secret generic db --from-literal=password=§ -n shop"),
    ("kubectl create docker secret", "people", "kubectl create secret docker-registry reg --docker-server=ghcr.io --docker-username=bot --docker-password=§"),
    ("projected token in a log", "jwt", "using token §, expires in 3607s"),
    ("kubelet log with bearer", "random", 'I1121 round_trippers.go:466] curl -v -XGET -H "Authorization: Bearer §" -H "Accept: application/json" https://10.0.0.1:443/api'),
    # Helm, Argo CD, Flux
    ("helm values", "people", "postgresql:\n  auth:\n    username: orders\n    password: §\n    database: orders\n"),
    ("helm values, commented", "people", "redis:\n  auth:\n    enabled: true\n    password: §  # rotate me\n"),
    ("helm values, quoted", "people", 'global:\n  postgresql:\n    auth:\n      postgresPassword: "§"\n'),
    ("helm values, existing and not", "people", "auth:\n  existingSecret: \"\"\n  rootPassword: '§'\n  replicationUser: r\n"),
    ("helm set", "people", "helm upgrade --install db bitnami/postgresql --set auth.postgresPassword=§,primary.persistence.size=8Gi"),
    ("helm parameters in an app", "people", {"source": {"helm": {"parameters": [{"name": "grafana.adminPassword", "value": "§", "forceString": True}]}}}),
    ("helm valuesObject", "people", {"source": {"helm": {"valuesObject": {"mongodb": {"auth": {"rootPassword": "§"}}}}}}),
    ("helm values in an app", "people", {"source": {"helm": {"values": "grafana:\n  adminUser: admin\n  adminPassword: §\n"}}}),
    ("kustomize literals", "people", "secretGenerator:\n- name: db\n  literals:\n  - username=orders\n  - password=§\n"),
    ("argo repo url", "random", {"message": "rpc error: failed to list refs: Get \"https://oauth2:§@git.shop.test/team/app.git/info/refs\": dial tcp"}),
    ("argo repo creds", "people", {"stringData": {"type": "git", "url": "https://git.shop.test", "username": "bot", "password": "§"}}),
    ("argo cluster secret", "random", {"name": "prod", "server": "https://10.0.0.1", "config": '{"bearerToken":"§","tlsClientConfig":{"insecure":false}}'}),
    ("argo plugin env", "random", {"plugin": {"env": [{"name": "VAULT_ROLE_SECRET", "value": "§"}]}}),
    ("argo notifications", "slack_token", {"data": {"service.slack": "token: §\nusername: argocd\n"}}),
    ("dex config", "random", "connectors:\n- type: github\n  id: github\n  config:\n    clientID: aabbccddeeff00112233\n    clientSecret: §\n    orgs:\n    - name: shop\n"),
    ("dex static password", "password_hash_bcrypt", "staticPasswords:\n- email: admin@shop.test\n  hash: \"§\"\n  username: admin\n"),
    # configuration of applications
    ("spring yaml", "people", "spring:\n  datasource:\n    url: jdbc:postgresql://db:5432/shop\n    username: shop\n    password: §\n"),
    ("spring properties", "people", "spring.datasource.username=shop\nspring.datasource.password=§\nspring.jpa.hibernate.ddl-auto=none\n"),
    ("spring keystore", "people", "server.ssl.key-store=classpath:keystore.p12\nserver.ssl.key-store-password=§\n"),
    ("spring oauth", "random", "spring.security.oauth2.client.registration.google.client-secret=§"),
    ("spring actuator env", "people", {"propertySources": [{"name": "systemEnvironment", "properties": {"SPRING_RABBITMQ_PASSWORD": {"value": "§", "origin": "System Environment Property"}}}]}),
    ("django settings", "random", "DEBUG = False\nSECRET_KEY = 'django-insecure-§'\nALLOWED_HOSTS = ['*']\n"),
    ("django databases", "people", "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'USER': 'shop', 'PASSWORD': '§', 'HOST': 'db'}}"),
    ("django email", "people", "EMAIL_HOST_USER = 'robot@shop.test'\nEMAIL_HOST_PASSWORD = '§'\n"),
    ("rails secrets", "hex", "production:\n  secret_key_base: §\n  rails_max_threads: 5\n"),
    ("rails database", "people", "production:\n  adapter: postgresql\n  username: shop\n  password: <%= '§' %>\n"),
    ("rails url", "people", "DATABASE_URL=postgres://shop:§@db.shop.svc:5432/shop?pool=5"),
    ("rails master key", "hex", "RAILS_MASTER_KEY=§"),
    ("laravel env", "base64", "APP_NAME=Shop\nAPP_ENV=production\nAPP_KEY=base64:§\nAPP_DEBUG=false\n"),
    ("symfony dsn", "people", "MAILER_DSN=smtp://robot:§@mail.shop.test:587"),
    ("dotenv exported", "random", "export STRIPE_WEBHOOK_SECRET=§\nexport PORT=3000\n"),
    ("dotenv in a configmap", "random", {"kind": "ConfigMap", "data": {".env": "NODE_ENV=production\nSESSION_SECRET=§\nPORT=3000\n"}}),
    ("appsettings", "people", '{\n  "ConnectionStrings": {\n    "Shop": "Server=tcp:db,1433;Initial Catalog=shop;User ID=shop;Password=§;"\n  }\n}'),
    ("wordpress", "people", "define( 'DB_USER', 'wp' );\ndefine( 'DB_PASSWORD', '§' );\n"),
    ("wordpress salt", "random", "define('AUTH_KEY',         '§');\n"),
    ("ini file", "people", "[smtp]\nhost = mail\nuser = robot\npassword = §\n"),
    ("grafana ini", "people", "[security]\nadmin_user = admin\nadmin_password = §\nsecret_key = SW2YcwTIb9zpOOhoPsMm\n"),
    ("toml", "random", "[auth.github]\nclient_id = \"Iv1.1234\"\nclient_secret = \"§\"\n"),
    ("xml of tomcat", "people", '<Resource name="jdbc/shop" username="shop" password="§" driverClassName="org.postgresql.Driver"/>'),
    ("xml of maven", "people", "<server>\n  <id>nexus</id>\n  <username>deploy</username>\n  <password>§</password>\n</server>"),
    ("hibernate xml", "people", '<property name="hibernate.connection.password">§</property>'),
    ("hocon", "people", 'db {\n  user = shop\n  password = "§"\n  password = ${?DB_PASSWORD}\n}'),
    ("go struct dump", "people", "config loaded: {Addr:db:5432 User:shop Password:§ Database:shop}"),
    ("python repr", "people", "Settings(host='db', user='shop', password='§', port=5432)"),
    ("java toString", "random", "OAuthClient{clientId=shop, clientSecret=§, scopes=[read]}"),
    ("ruby inspect", "people", '{:adapter=>"postgresql", :username=>"shop", :password=>"§"}'),
    ("php array", "people", "'mysql' => ['user' => 'shop', 'pass' => '§']"),
    ("js object", "random", "const client = new Client({ apiKey: '§', region: 'eu' })"),
    # connection strings
    ("jdbc mysql query", "people", "jdbc:mysql://db:3306/shop?user=shop&password=§&useSSL=true"),
    ("jdbc oracle thin", "people", "jdbc:oracle:thin:shop/§@//db.shop.svc:1521/ORCL"),
    ("jdbc sqlserver", "people", "jdbc:sqlserver://db:1433;databaseName=shop;user=sa;password=§;encrypt=true"),
    ("odbc", "people", "Driver={ODBC Driver 18 for SQL Server};Server=db;Uid=shop;Pwd={§};Encrypt=yes"),
    ("libpq keywords", "people", "host=db port=5432 dbname=shop user=shop password=§ sslmode=require"),
    ("mongodb srv", "random", "mongodb+srv://shop:§@cluster0.mongo.test/shop?retryWrites=true"),
    ("amqp", "people", "amqp://shop:§@rabbit:5672/%2F"),
    ("redis url no user", "people", "redis://:§@redis-master:6379/0"),
    ("redis stackexchange", "people", "redis-master:6379,password=§,ssl=False,abortConnect=False"),
    ("clickhouse", "people", "clickhouse://default:§@ch:9000/events?dial_timeout=200ms"),
    ("go mysql dsn", "people", "connecting: shop:§@tcp(db:3306)/shop?parseTime=true"),
    ("ldap bind", "people", "ldap.bind.dn=cn=reader,dc=shop,dc=test\nldap.bind.password=§\n"),
    ("ftp url", "people", "put file to ftp://upload:§@ftp.shop.test/in/"),
    ("celery broker", "people", "[config]\n.> transport:   amqp://shop:§@rabbit:5672//\n.> results: disabled://"),
    # clouds
    ("azure storage", "base64", "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=§;EndpointSuffix=core.windows.net"),
    ("azure service bus", "base64", "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=§"),
    ("azure principal", "random", {"appId": "8f2b", "displayName": "deploy", "password": "§", "tenant": "72f9"}),
    ("azure blob sas", "base64", "https://shop.blob.core.windows.net/a/b?sv=2023-11-03&st=2026-01-01&sr=b&sp=r&sig={quoted}"),
    ("aws credentials file", "base64", "[default]\naws_access_key_id = AKEXAMPLE\naws_secret_access_key = §\n"),
    ("aws json", "base64", {"AccessKey": {"UserName": "deploy", "Status": "Active", "SecretAccessKey": "§"}}),
    ("aws sts", "base64", {"Credentials": {"AccessKeyId": "x", "SessionToken": "§", "Expiration": "2026-01-01T00:00:00Z"}}),
    ("s3 presigned", "hex", "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=§"),
    ("gcs signed", "hex", "https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Expires=600&X-Goog-Signature=§"),
    ("cloudfront signed", "base64", "https://d1.cloudfront.net/k?Expires=1700000000&Signature={quoted}&Key-Pair-Id=K2J"),
    ("gcp service account key", "private_key", {"type": "service_account", "private_key": "§"}),
    ("terraform state", "random", '{"mode": "managed", "type": "random_password", "name": "db", "instances": [{"attributes": {"bcrypt_hash": null, "length": 24, "result": "§", "special": false}}]}'),
    ("terraform state db", "people", {"type": "aws_db_instance", "instances": [{"attributes": {"engine": "postgres", "password": "§", "port": 5432}}]}),
    ("terraform output", "people", 'db_password = "§"\ndb_endpoint = "db.shop.test:5432"\n'),
    ("terraform variable", "random", "terraform apply -var 'db_password=§' -auto-approve"),
    ("terraform env", "random", "TF_VAR_cloud_token=§ terraform plan"),
    # runs, containers, shells
    ("actions log", "people", "2026-01-01T00:00:00.0000000Z ##[group]Run ./deploy.sh\n2026-01-01T00:00:00.0000000Z env:\n2026-01-01T00:00:00.0000000Z   REGISTRY_PASSWORD: §\n"),
    ("actions docker login", "people", "2026-01-01T00:00:01Z [command]/usr/bin/docker login -u bot -p § registry.shop.test"),
    ("gitlab job", "random", "$ curl --request POST --form token=§ --form ref=main https://git.shop.test/api/v4/projects/1/trigger/pipeline"),
    ("docker inspect", "people", {"Config": {"Env": ["PATH=/usr/bin", "MYSQL_ROOT_PASSWORD=§", "LANG=C"]}}),
    ("docker config", "people", {"auths": {"ghcr.io": {"auth": "{of_user}"}}}),
    ("docker run", "people", "docker run -d -e POSTGRES_PASSWORD=§ -p 5432:5432 postgres:16"),
    ("compose", "people", "services:\n  db:\n    image: mysql:8\n    environment:\n      - MYSQL_USER=shop\n      - MYSQL_PASSWORD=§\n"),
    ("dockerfile", "random", "FROM node:20\nARG NPM_TOKEN=§\nRUN npm ci\n"),
    ("curl user", "people", "curl -s -u admin:§ http://grafana/api/health"),
    ("curl user long", "people", "curl --user 'admin:§' https://nexus.shop.test/service/rest/v1/status"),
    ("curl header key", "random", "curl -H 'X-API-Key: §' https://api.shop.test/v1/orders"),
    ("curl data", "people", "curl -d '{\"username\":\"admin\",\"password\":\"§\"}' https://api.shop.test/login"),
    ("curl form", "random", "curl -d 'grant_type=client_credentials&client_id=shop&client_secret=§' https://sso.shop.test/token"),
    ("wget", "people", "wget --user=bot --password=§ https://files.shop.test/a.tgz"),
    ("sshpass", "people", "sshpass -p '§' ssh deploy@host uptime"),
    ("mysqldump", "people", "mysqldump -h db -u shop --password=§ shop > dump.sql"),
    ("psql url", "people", "psql postgresql://shop:§@db/shop -c 'select 1'"),
    ("openssl passin", "people", "openssl rsa -in key.pem -passin pass:§ -out plain.pem"),
    ("keytool", "people", "keytool -importkeystore -srckeystore a.p12 -srcstorepass § -destkeystore b.jks -deststorepass changeit"),
    ("git remote", "random", "origin\thttps://x-access-token:§@git.shop.test/shop/app.git (fetch)"),
    ("ssh private key in a configmap", "private_key", {"data": {"id_rsa": "§"}}),
    # proxies, queues, monitoring
    ("kafka jaas", "people", 'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="shop" password="§";'),
    ("kafka jaas file", "people", 'KafkaServer {\n  org.apache.kafka.common.security.plain.PlainLoginModule required\n  username="admin"\n  password="a"\n  user_admin="§";\n};'),
    ("kafka ssl", "people", "ssl.truststore.location=/etc/t.jks\nssl.truststore.password=§\n"),
    ("prometheus basic auth", "people", "scrape_configs:\n- job_name: x\n  basic_auth:\n    username: prom\n    password: §\n"),
    ("prometheus bearer", "random", "remote_write:\n- url: https://m.shop.test\n  authorization:\n    type: Bearer\n    credentials: §\n"),
    ("alertmanager pagerduty", "hex32", "receivers:\n- name: page\n  pagerduty_configs:\n  - routing_key: §\n"),
    ("alertmanager service key", "hex32", "pagerduty_configs:\n- service_key: §\n"),
    ("alertmanager smtp", "people", "global:\n  smtp_auth_username: robot\n  smtp_auth_password: '§'\n"),
    ("alertmanager slack", "slack_webhook", "slack_configs:\n- api_url: §\n"),
    ("alertmanager opsgenie", "uuid", "opsgenie_configs:\n- api_key: §\n"),
    ("nginx proxy header", "random", 'proxy_set_header Authorization "Bearer §";'),
    ("nginx basic header", "people", 'proxy_set_header Authorization "Basic {of_user}";'),
    ("htpasswd", "password_hash_bcrypt", "auth_basic_user_file:\nadmin:§\n"),
    ("haproxy userlist", "people", "userlist ops\n  user admin insecure-password §\n  user guest password $6$k6y3o.eP$x\n"),
    ("haproxy stats", "people", "listen stats\n  stats enable\n  stats auth admin:§\n  stats uri /\n"),
    ("haproxy redis check", "people", "backend redis\n  option tcp-check\n  tcp-check send AUTH\\ §\\r\\n\n  tcp-check expect string +OK\n"),
    ("haproxy log cookie", "random", '10.1.1.1:53 [01/Jan/2026:00:00:00.000] fe be/s1 0/0/1/2/3 200 512 - - ---- 1/1/0/0/0 0/0 {session=§} "GET / HTTP/1.1"'),
    ("access log query", "random", '10.1.1.1 - - [01/Jan/2026] "GET /callback?code=ok&access_token=§&state=1 HTTP/1.1" 302 0'),
    ("envoy header", "random", "':authority', 'api'\n':path', '/'\n'authorization', 'Bearer §'\n'user-agent', 'curl'\n"),
    ("traefik basic", "password_hash_bcrypt", {"traefik.http.middlewares.a.basicauth.users": "admin:§"}),
    ("redis config get", "people", {"reply": ["requirepass", "§"]}),
    ("redis config get many", "people", {"reply": ["maxmemory", "0", "masterauth", "§", "port", "6379"]}),
    ("redis conf", "people", "bind 0.0.0.0\nrequirepass §\nmasterauth §\n"),
    ("redis acl", "people", "user shop on >§ ~shop:* +@read"),
    ("redis acl hash", "hex64", "user shop on #§ ~shop:* +@read"),
    ("redis acl getuser", "hex64", {"reply": ["flags", ["on"], "passwords", ["§"], "commands", "+@all"]}),
    ("redis monitor", "people", '1700000000.1 [0 10.2.0.1:5000] "AUTH" "shop" "§"'),
    ("redis hello", "people", '1700000000.1 [0 10.2.0.1:5000] "HELLO" "3" "AUTH" "shop" "§"'),
    ("sentinel", "people", "sentinel auth-pass mymaster §"),
    ("rabbit definitions", "base64", {"users": [{"name": "shop", "password_hash": "§", "hashing_algorithm": "rabbit_password_hashing_sha256"}]}),
    # identity, vaults, mail, chat, web
    ("vault kv get", "people", "====== Data ======\nKey         Value\n---         -----\npassword    §\nusername    shop\n"),
    ("vault login", "vault_token", "token                §\ntoken_accessor       abc\n"),
    ("vault unseal", "base64", "Unseal Key 1: §\nUnseal Key 2: (hidden)\n"),
    ("vault response", "random", {"request_id": "1", "data": {"data": {"password": "§"}, "metadata": {"version": 3}}}),
    ("vault wrap", "vault_token", {"wrap_info": {"token": "§", "ttl": 300}}),
    ("consul acl", "uuid", "AccessorID:       6a1253d2\nSecretID:         §\nDescription:      agent\n"),
    ("consul header", "uuid", "curl -H 'X-Consul-Token: §' http://consul:8500/v1/kv/"),
    ("consul gossip", "base64", '{"datacenter": "eu", "encrypt": "§", "retry_join": ["consul"]}'),
    ("nomad token", "uuid", "NOMAD_TOKEN=§ nomad status"),
    ("etcd", "people", "etcdctl --user root:§ get / --prefix"),
    ("oidc callback", "random", "GET /auth/callback?code=§&state=abc HTTP/1.1"),
    ("oidc token answer", "random", {"access_token": "§", "token_type": "Bearer", "expires_in": 300}),
    ("oidc refresh", "random", {"refresh_token": "§", "scope": "openid"}),
    ("oidc id token", "jwt", {"id_token_hint": "§"}),
    ("oauth2 proxy cookie", "base64", "--cookie-secret=§ --cookie-secure=true"),
    ("oauth2 proxy env", "random", "OAUTH2_PROXY_CLIENT_SECRET=§"),
    ("keycloak", "random", '{"clientId": "shop", "clientAuthenticatorType": "client-secret", "secret": "§", "publicClient": false}'),
    ("saml response", "people", "POST /saml/acs SAMLResponse={of_saml}&RelayState=x"),
    ("cookie header", "random", "Cookie: theme=dark; sessionid=§; lang=en"),
    ("set-cookie", "random", "< Set-Cookie: connect.sid=s%3A§.abc; Path=/; HttpOnly"),
    ("slack webhook in a log", "slack_webhook", "POST § 200 OK"),
    ("smtp url", "people", "smtps://robot%40shop.test:§@smtp.shop.test:465"),
    ("telegram", "telegram_token", "https://api.telegram.org/bot§/sendMessage"),
    ("netrc", "people", "machine git.shop.test login bot password §"),
    ("npmrc", "random", "//registry.shop.test/:_authToken=§"),
    ("pip conf", "people", "[global]\nindex-url = https://bot:§@pypi.shop.test/simple\n"),
    ("gradle", "people", "nexusUsername=deploy\nnexusPassword=§\norg.gradle.jvmargs=-Xmx2g\n"),
    ("sops age key", "age_key", "# created: 2026-01-01\n# public key: age1abc\n§\n"),
    ("cert-manager dns solver", "random", {"solvers": [{"dns01": {"cloudflare": {"apiToken": "§"}}}]}),
    ("wireguard", "base64", "[Interface]\nPrivateKey = §\nAddress = 10.0.0.1/24\n"),
    ("wpa psk", "people", "network={\n  ssid=\"office\"\n  psk=\"§\"\n}"),
    ("snmp", "people", "rocommunity §\nsyslocation dc1\n"),
    ("sql create user", "people", "CREATE USER shop WITH ENCRYPTED PASSWORD '§';"),
    ("sql alter", "people", "ALTER ROLE shop LOGIN PASSWORD '§' VALID UNTIL 'infinity'"),
    ("sql grant", "people", "GRANT ALL ON shop.* TO 'shop'@'%' IDENTIFIED BY '§';"),
    ("sql insert", "people", "INSERT INTO settings (name, value) VALUES ('smtp_password', '§')"),
    ("commit message", "people", {"message": "Revert \"set DB_PASSWORD=§ for staging\"\n\nThis reverts commit 1a2b3c4."}),
    ("chat in a page", "people", "<p>The admin password is <code>§</code>, please rotate.</p>"),
    ("prose", "random", "For staging use the API key § until Friday."),
    ("prose, german style", "random", "login: shop / password: §"),
    ("markdown table", "people", "| user | password |\n|---|---|\n| shop | § |\n"),
    ("csv", "people", "host,username,password\ndb,shop,§\n"),
    ("stack trace", "people", "psycopg2.OperationalError: connection to \"dbname=shop user=shop password=§ host=db\" failed"),
    ("url without scheme", "people", "dial shop:§@rabbit.shop.svc:5672: connection refused"),
    ("protobuf text", "people", 'auth { username: "shop" password: "§" }'),
    ("powershell", "people", "$pw = ConvertTo-SecureString '§' -AsPlainText -Force"),
    ("ansible", "people", "ansible_user: deploy\nansible_become_pass: §\n"),
    ("jenkins xml", "people", "<com.cloudbees.plugins.credentials.impl.UsernamePasswordCredentialsImpl>\n<username>bot</username>\n<password>§</password>"),
    ("jwk symmetric", "random", {"keys": [{"kty": "oct", "kid": "1", "k": "§", "alg": "HS256"}]}),
    ("totp", "random", "otpauth://totp/Shop:ada?secret=§&issuer=Shop"),
    ("ssh config proxy", "people", "ProxyCommand sshpass -p § ssh -W %h:%p jump"),
    ("base64 env file", "people", {"content": "{of_env}"}),
    ("cloud-init", "people", "chpasswd:\n  list: |\n    root:§\n  expire: False\n"),
    ("license key", "random", "GITLAB_LICENSE_KEY: §"),
    ("datadog", "hex", "DD_API_KEY=§ DD_SITE=datadoghq.eu"),
    ("datadog helm", "hex", "datadog:\n  apiKey: §\n  appKey: ''\n"),
    ("new relic ini", "hex", "newrelic.license_key=§"),
    ("loki url", "random", "clients:\n- url: https://123456:§@logs.shop.test/loki/api/v1/push\n"),
    ("elasticsearch env", "people", "ELASTIC_PASSWORD=§\nELASTIC_VERSION=8.11.1"),
    ("elastic api key header", "base64", "Authorization: ApiKey §"),
    ("digest header", "hex", 'Authorization: Digest username="ada", realm="x", nonce="n", uri="/", response="§"'),
    ("minio", "people", "MINIO_ROOT_USER=shop\nMINIO_ROOT_PASSWORD=§\n"),
    ("rclone", "random", "[s3]\ntype = s3\naccess_key_id = shop\nsecret_access_key = §\n"),
    ("restic", "people", "RESTIC_PASSWORD=§ restic -r s3:https://s3.shop.test/b backup /data"),
    ("hmac url", "hex", "POST /hooks/deploy?id=42&signature=§"),
    ("airflow connection", "people", "AIRFLOW_CONN_DB='postgresql://airflow:§@db/airflow'"),
    ("airflow fernet", "base64", "AIRFLOW__CORE__FERNET_KEY=§"),
    ("superset", "random", "SUPERSET_SECRET_KEY = \"§\""),
    ("keys of a map", "github_token", {"§": "used by ci"}),
    ("a diff", "people", "@@ -3,3 +3,3 @@\n   user: shop\n-  password: §\n+  password: (withheld)\n"),
)  # fmt: skip


def planted(seed: int = 1) -> Iterator[Planted]:
    source = random.Random(seed)  # it draws what tests look for
    for place, kind, value in PLANTED:
        secret = _draw(kind, source)
        shown = [secret]
        filled = _fill(value, secret, shown)
        yield Planted(kind, place, shown[-1], filled)


def _fill(value: Any, secret: str, shown: list[str]) -> Any:
    if isinstance(value, dict):
        return {_fill(key, secret, shown): _fill(inner, secret, shown) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, secret, shown) for inner in value]
    if not isinstance(value, str):
        return value
    for mark, wrap in _WRAPPINGS.items():
        if mark in value:
            shown.append(wrap(secret))
            value = value.replace(mark, shown[-1])
    return value.replace("§", secret)
