"""What is a secret for where it stands: behind a header's name, in a command, in a URL, in a line of some file format."""

from __future__ import annotations

from .randomness import is_no_amount, is_no_plain_word, is_no_word, looks_random
from .secret_shapes import Shape
from .secret_values import is_cookie, is_not_said

_UUID = r"[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}"
_SCHEME = r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,30}://"
_USER = r"[^\s/:@\"'<>\\\[]*"
_WORDS = (
    r"passw(?:or)?d|passphrase|secret|token|api[ _-]?key|access[ _-]?key|credentials?|"
    r"datadog|heroku|okta|pagerduty|snyk"
)
_DIRECTIVES = r"requirepass|masterauth|primaryauth|sentinel-pass|tls-(?:client-)?key-file-pass"
_FLAG = r"\"--?[a-z-]*(?:password|passwd|passphrase|secret|token|api-?key)\"\s*,\s*\""
_LOGINS = r"argocd|az|buildah|docker|helm|nerdctl|oc|oras|podman|skopeo"
_MONGO = r"cypher-shell|mongo|mongodump|mongosh|sqlcmd"
_LDAP = r"redis-cli|ldapadd|ldapmodify|ldapsearch|ldapwhoami"
_MYSQL = r"mysql|mysqldump|mysqladmin|mariadb"
_WEB = r"curl|etcdctl|http|wget|xh"
_CELL = r"(?:secret|secret_key|token|api_key|access_key)"
_CALLED = r"(?i:[\w.-]*(?:password|passwd|pwd|secret|token|api_?key|_KEY|_SALT))"
_SETTING = r"(?:define|put|set\w{0,16}|with\w{0,16}|add\w{0,16}|getenv|get|values)"
_GAP = r"[^\r\n|;]{0,200}?"

PLACES: tuple[Shape, ...] = (
    # Headers.
    Shape(
        "authorization",
        r"(?i:\b(?:bearer|basic|dpop|negotiate|ntlm)\s+[A-Za-z0-9._~+/-]{12})",
        r"(?i:\b(?:bearer|basic|dpop|negotiate|ntlm)\s+)([A-Za-z0-9._~+/-]{12,}={0,2})",
        judge=is_no_word,
    ),
    Shape(
        "authorization",
        r"(?i:\bauthorization\\*[\"']?\s*[:=])",
        r"(?i:\bauthorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:token|apikey|api-key|key|hmac|aws4-hmac-sha256)\s+)([^\"'\\\r\n]{8,})",
    ),
    Shape(
        "authorization",
        r"(?i:\bauthorization\\*[\"']?\s*[:=]\s*\\*[\"']?digest\s)",
        r"(?i:\bauthorization\\*[\"']?\s*[:=]\s*\\*[\"']?digest\s+)([^\r\n]{8,})",
    ),
    Shape(
        "authorization",
        r"(?i:\bauthorization\s*:\s*)[A-Za-z0-9._~+/-]{20}",
        r"(?i:\bauthorization\s*:\s*)([A-Za-z0-9._~+/-]{20,}={0,2})",
    ),
    Shape(
        "cookie",
        r"(?i:cookie2?\\*[\"']?\s*[:=]\s*\\*[\"']?)[A-Za-z0-9!#$%&*+.^_`|~-]+=",
        r"(?i:\b(?:set-)?cookie2?\\*[\"']?\s*[:=]\s*\\*[\"']?)([A-Za-z0-9!#$%&*+.^_`|~-]+=[^\r\n\"']+)",
        judge=is_cookie,
    ),
    Shape(
        "cookie",
        r"(?i:\bsess(?:ion)?(?:[_-]?id)?=)[A-Za-z0-9+/_%.-]{16}",
        r"(?i:\bsess(?:ion)?(?:[_-]?id)?=)([A-Za-z0-9+/_%.-]{16,}={0,2})",
        judge=looks_random,
    ),
    # Sentences and tables.
    Shape(
        "password",
        r"(?i:\bpass(?:word|phrase|wd|code)\b[^\r\n<]{0,24}<(?:b|code|kbd|pre|strong|tt)>)",
        r"(?i:\bpass(?:word|phrase|wd|code)\b(?:\s+is|\s+was|:)\s*<(?:b|code|kbd|pre|strong|tt)>)([^<\s]{4,})</",
        judge=is_not_said,
    ),
    Shape(
        "password",
        r"(?i:pass(?:word|phrase|wd))[ \t]",
        r"(?i:(?:^|\n)[ \t]*(?:\w*_)?pass(?:word|phrase|wd)(?:\t[ \t]*|[ \t]{2,}))([^\s/]{6,})[ \t]*(?:$|\r?\n)",
        judge=lambda value: not value.isalpha() and is_no_amount(value),
    ),
    Shape(
        "generic",
        rf"(?i:{_CELL})[ \t]",
        rf"(?i:(?:^|\n)[ \t]*(?:\w*_)?{_CELL}(?:\t[ \t]*|[ \t]{{2,}}))([^\s/]{{6,}})[ \t]*(?:$|\r?\n)",
        judge=is_no_plain_word,
    ),
    Shape(
        "vault_key",
        r"(?i:\b(?:unseal|recovery) key \d)",
        r"(?i:\b(?:unseal|recovery) key \d{1,2}:\s*)([A-Za-z0-9+/]{20,}={0,2})",
    ),
    Shape(
        "generic",
        rf"(?i:{_WORDS}|\bdd)[\w ,.:=(-]*[ :=('\"`]+[A-Za-z0-9][A-Za-z0-9+/_=.-]{{19}}",
        rf"(?i:(?:^|[^/\w])(?:{_WORDS}|dd)\b[\w ,.:=(-]{{0,24}}?[ :=('\"`]+)([A-Za-z0-9][A-Za-z0-9+/_=.-]{{19,}})",
        judge=looks_random,
    ),
    Shape(
        "password",
        r"(?i:\bpass(?:word|phrase|wd|code)\s+(?:is|was|:=|=)\s)",
        r"(?i:\bpass(?:word|phrase|wd|code)\s+(?:is|was|:=|=)\s+(?:now\s+|set\s+to\s+)?[`'\"]?)([^\s'\"`]*[0-9!@#$%^&*+][^\s'\"`]*)",
    ),
    # Configuration: Redis, HAProxy, .netrc, .pgpass.
    Shape(
        "password",
        r"(?i:\b(?:insecure-password|masterauth|primaryauth|requirepass|key-file-pass)[ \t])",
        r"(?i:\b(?:insecure-password|masterauth|primaryauth|requirepass|tls-(?:client-)?key-file-pass)[ \t]+\"?)([^\s'\"]+)",
        judge=is_not_said,
    ),
    Shape(
        "password",
        r"(?i:\btcp-check[ \t]+send)",
        r"(?i:\btcp-check[ \t]+send(?:-lf)?[ \t]+[\"']?AUTH)(?:\\*[ \t])(?:[\w.-]+\\*[ \t])?([^\s\\\"']+)",
    ),
    Shape(
        "password",
        r"LoginModule\b",
        r"LoginModule\b[^;]{0,400}?((?:\buser_[\w.-]+\s*=\s*\\*[\"'][^\"'\\]*\\*[\"'][\s\\]*)+)",
    ),
    Shape(
        "pagerduty_key",
        r"(?i:\b(?:routing|service|integration)_?key)",
        r"(?i:\b(?:routing|service|integration)_?key\\*[\"']?\s*[:=]\s*\\*[\"']?)([a-f0-9]{32})\b",
    ),
    Shape(
        "consul_key",
        r"\bencrypt\\*\"?\s*[:=]",
        r"\bencrypt\\*\"?\s*[:=]\s*\\*\"([A-Za-z0-9+/]{22,43}={1,2})",
    ),
    Shape("password", r"\br[ow]community6?[ \t]", r"\br[ow]community6?[ \t]+([^\s\"']{4,})", judge=is_not_said),
    Shape("password", r"(?i:auth-pass[ \t])", r"(?i:\bsentinel[ \t]+auth-pass[ \t]+\S+[ \t]+)([^\s'\"]+)"),
    Shape("password", r"(?i:\bstats[ \t]+auth[ \t])", r"(?i:\bstats[ \t]+auth[ \t]+[^\s:]+:)([^\s'\"]+)"),
    Shape("password", r"(?i:\s+password\s)", r"(?i:\b(?:user|login|machine)\s+\S+\s+password\s+)([^\s'\"]+)"),
    Shape(
        "password",
        r":(?:\d{2,5}|\*):[^\s:\"']+:[^\s:\"']+:",
        r"(?:^|[\n\"'])(?:[A-Za-z*][A-Za-z0-9*.-]*|\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):(?:\d{2,5}|\*):[^\s:\"']+:[^\s:\"']+:([^\s:\"']+)(?:$|[\n\"'])",
    ),
    Shape("password", rf"(?i:\"(?:{_DIRECTIVES})\"[\s,])", rf"(?i:\"(?:{_DIRECTIVES})\"[\s,]+(?:\d+\) )?\")([^\"]+)"),
    Shape(
        "redis_acl",
        r"(?i:user\s+\S+\s[^\r\n]*[#!<>])",
        r"(?i:\b(?:user|setuser)\s+\S+\s[^\r\n]{0,200}?)((?:[<>][^\s\"']+\s+|[#!][a-f0-9]{64}\s+)*(?:[<>][^\s\"']+|[#!][a-f0-9]{64}))",
        unsalted=True,
    ),
    Shape(
        "redis_acl",
        r"[\s\"'][#!][a-f0-9]{8}|^[#!][a-f0-9]{8}",
        r"(?:^|[\s\"'])([#!][a-f0-9]{64})(?:$|[\s\"'])",
        unsalted=True,
    ),
    # Commands and statements.
    Shape(
        "password",
        r"\] \\*\"(?i:auth|hello)\\*\" ",
        r"(?i:\] \\*\"(?:auth|hello\\*\" \\*\"3\\*\" \\*\"auth)\\*\" (?:\\*\"[^\s\"]+\" )?\\*\")"
        r"([^\"\\\s]+)\\*\"(?:$|[^ ]|\s[^\"\\])",
    ),  # MONITOR
    Shape("password", r"\bAUTH[ \t]", r"(?:^|[\n>\"'] ?)AUTH[ \t]+(?:[\w.-]+[ \t]+)?([^\s\"']{4,})(?:$|[\n\"'])"),
    Shape(
        "password",
        r"(?i:\bidentified\s)",
        r"(?i:\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?)'([^']+)'",
    ),
    Shape("password", r"(?i:\bpassword[\s=(]+')", r"(?i:\bpassword(?:\s*=\s*|\s+|\s*\(\s*))'([^']+)'"),
    Shape(
        "password",
        r"(?i:ConvertTo-SecureString)",
        r"(?i:\bConvertTo-SecureString\s+(?:-String\s+)?)['\"]([^'\"]+)['\"]",
    ),
    Shape(
        "password",
        rf"\(\s*\\*['\"]{_CALLED}",
        rf"(?i:\b{_SETTING})\s*\(\s*\\*['\"]{_CALLED}\\*['\"]\s*,\s*\\*['\"]([^'\"\s\\]{{3,}})\\*['\"]",
        judge=is_no_plain_word,
    ),
    Shape(
        "password",
        r"(?i:\b(?:user|role)\s+\S+\s+identified\s+by\s)",
        r"(?i:\b(?:user|role)\s+\S+\s+identified\s+by\s+)\"?([^\s;\"']{4,})",
        judge=is_not_said,
    ),
    Shape(
        "password",
        r"\b(?:add_user|change_password|reset-admin-password)\s",
        r"\b(?:(?:add_user|change_password)\s+[\w.@-]+|reset-admin-password)\s+['\"]?([^\s'\"<$-][^\s'\"]*)",
        judge=is_not_said,
    ),
    Shape(
        "generic",
        r"\bconfigure\s+set\s",
        r"\bconfigure\s+set\s+[\w.]*(?:secret_access_key|session_token|password|token)\s+['\"]?([^\s'\"<$-][^\s'\"]*)",
    ),
    Shape("password", r"\bsshpass\s", r"\bsshpass\s+-p\s*['\"]?([^\s'\"]+)"),
    Shape("password", rf"\b(?:{_MYSQL})\b[^\r\n|;]*\s-p", rf"\b(?:{_MYSQL})\b{_GAP}\s-p['\"]?([^\s'\"]+)"),
    Shape(
        "password",
        rf"\b(?:{_LOGINS})\b[^\r\n|;]*\blogin\b",
        rf"\b(?:{_LOGINS})\b[^\r\n|;]{{0,60}}?\blogin\b{_GAP}\s-p[ =]?['\"]?([^\s'\"-][^\s'\"]*)",
    ),
    Shape(
        "password",
        rf"\b(?:{_MONGO})\b[^\r\n|;]*\s-[pP]",
        rf"\b(?:{_MONGO})\b{_GAP}\s-[pP]\s?['\"]?([^\s'\"-][^\s'\"]*)",
    ),
    Shape(
        "password", rf"\b(?:{_LDAP})\b[^\r\n|;]*\s-[aw]", rf"\b(?:{_LDAP})\b{_GAP}\s-[aw]\s?['\"]?([^\s'\"-][^\s'\"]*)"
    ),
    Shape("password", r"\bsmbclient\b", rf"\bsmbclient\b{_GAP}\s-U\s?['\"]?[^\s%'\"]+%([^\s'\"]+)"),
    Shape(
        "password",
        rf"\b(?:{_WEB})\b[^\r\n|;]*\s(?:-u|--user|--proxy-user|-a)",
        rf"\b(?:{_WEB})\b{_GAP}\s(?:-u|--user|--proxy-user|-a)[ =]?\s*['\"]?[^\s:'\"]+:([^\s'\"]+)",
    ),
    Shape("password", r"\bhtpasswd\s", r"\bhtpasswd\s+-\w*b\w*\s+(?:\S+\s+)?\S+\s+(\S+)"),
    Shape("password", r"\bpass:", r"\bpass:([^\s'\"]{4,})"),
    Shape("password", rf"(?i:{_FLAG})", rf"(?i:{_FLAG})([^\"-][^\"]*)"),
    # URLs.
    Shape("password", r"(?i:jdbc:oracle:)", r"(?i:\bjdbc:oracle:\w+:[^/\s@]+/)([^@\s]+)@"),
    Shape("url_password", r"://[^\s/:@\"'<>]*:[^\s/\"'<>]*@", rf"{_SCHEME}{_USER}:([^\s/\"'<>]+)@"),
    Shape("url_password", r"://[^\s/:@\"'<>]*:[^\s\"'<>]*@", rf"{_SCHEME}{_USER}:(\d*[^\s\d/\"'<>][^\s\"'<>]*)@"),
    Shape("url_password", r"@(?:tcp|unix)\(", r"\b[\w.-]+:([^\s/@\"']+)@(?:tcp|unix)\("),
    Shape(
        "url_password",
        r":[^\s:@/\"'<>]{4,80}@[A-Za-z][\w.-]*:\d",
        r"(?:^|[\s\"'=(,])[A-Za-z][\w.-]{0,40}:([^\s:@/\"'<>,]{4,80})@[A-Za-z][\w.-]*:\d{2,5}(?:$|[^\w])",
        judge=is_no_plain_word,
    ),
    Shape(
        "url_signature",
        r"(?i:[?&](?:signature|hmac|assertion|client_assertion|ticket)=)",
        r"(?i:[?&](?:signature|hmac|assertion|client_assertion|ticket)=)([A-Za-z0-9%+/_=~.-]{16,})",
    ),
    Shape(
        "saml",
        r"\bSAML(?:Response|Request|art)\\*[\"']?\s*[=:]",
        r"\bSAML(?:Response|art)\\*[\"']?\s*[=:]\s*\\*[\"']?([A-Za-z0-9%+/_=-]{20,})",
    ),
    Shape("oauth_code", r"[?&]code=", r"[?&]code=([A-Za-z0-9%/_.~-]{16,})", judge=looks_random),
    Shape("url_token", r"://[A-Za-z0-9_-]+@", rf"{_SCHEME}([A-Za-z0-9_-]{{20,}})@"),
    Shape(
        "vault_secret_id",
        r"(?i:secret[_-]?id\\*[\"']?\s*[:=])",
        rf"(?i:\bsecret[_-]?id\\*[\"']?\s*[:=]\s*\\*[\"']?)({_UUID})",
    ),
)
"""Kinds that are known by what stands around them."""
