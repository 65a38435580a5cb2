"""Names of fields that hold a secret (`dbPassword`), told from names of what is only about one (`secretName`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from unicodedata import normalize


class NameKind(StrEnum):
    """What a field of a telling name holds."""

    CONNECTION = "connection"
    COOKIE = "cookie"
    CREDENTIAL = "credential"
    KEY = "key"
    PASSWORD = "password"  # noqa: S105  # the word, not one
    SECRET = "secret"  # noqa: S105
    TOKEN = "token"  # noqa: S105


TELLING = (
    r"(?i:pass|pw|psk|kennwort|secret|token|cred|key|auth|cookie|connection[_.-]?string|connstr|dsn|kubeconfig|dockerc|sess|jwt|[_.-]pat|"
    r"signature|sig)"
)
"""RE2: every name that `kind_of_name` gives a kind to holds one of these."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_ABOUT = frozenset(
    """
    age alg algorithm algorithms alias arn at attempts audience audiences bits bucket budget cache changed charset
    check checks checksum claim claims class classes config configmap configuration controller cost count counts
    created date day days decoder deprecated description digest dir directory display domain duration element
    enabled encoder encoders encoding endpoint endpoints engine env error errors event events exchange exists exp
    expiration expire expired expires expiry failed failures field fields file filename files finalizer fingerprint
    flow format found generation generator group groups handler hash hasher hashers header headers help hint host
    hour id ids index input interval invalid issued issuer keyref kid kind kinds label lastmodified length lifetime
    limit limits link list location lookup manager max message metadata method methods min minute minutes missing
    mode model modified mount mounts name names namespace namespaces needed number operator optional options owner
    page param parameter params path paths per plugin policies policy port position prefix present profile prompt
    property provider providers pub public quality quota rate ratio ref reference references refresh refs region
    replicas request requests required requirement requirements reset resetter resource response review role rotate
    rotated rotation rotations rules schema scheme scope scopes second seconds service size source spec started
    state status stdin store stores strategy strength subject suffix supported sync table template time timeout
    timestamp title tracking ttl type types unit uri uris url urls usage use used username usernames uuid valid
    validation validator validators validity version versions volume volumes window
    """.split()  # noqa: SIM905  # a vocabulary reads better as text
)
"""A name that ends in one of these speaks about a secret."""

_KEYED = frozenset(
    """
    access account admin api app application auth aws azure client consumer crypto datadog dd decryption deploy
    deployment device encryption fernet gcp hmac host integration jwt licence license master pgp preshared private
    psk rsa secret security server service session shared sig signing ssh ssl storage symmetric tls unseal webhook
    write
    """.split()  # noqa: SIM905
)
"""What stands before `key` when the key is a secret."""

_NO_PASS = frozenset({"bypass", "compass", "encompass", "overpass", "surpass", "trespass", "underpass"})
_WORDS = (
    (
        NameKind.PASSWORD,
        re.compile(
            r".*(?:password|passwort|passwd|passphrase|passcode|kennwort).*|masterauth|.*pwd|.*pass|psk|(?:admin|bind|db|ldap|root|user)?pw"
        ),
    ),
    (NameKind.SECRET, re.compile(r".*secrets?")),
    (NameKind.TOKEN, re.compile(r".*(?:tokens?|jwt)|pat")),
    (NameKind.KEY, re.compile(rf".*(?:api|access|private|secret)key|(?:{'|'.join(sorted(_KEYED))})key|rawkey")),
    (NameKind.CREDENTIAL, re.compile(r"credentials?|creds|authorization")),
    (NameKind.CONNECTION, re.compile(r"dsn|kubeconfig|docker(?:config(?:json)?|cfg)|conn(?:ection)?str(?:ing)?")),
)
_NO_TOKEN = re.compile(r"^tokeni[sz]|^passwordless|^secretari|^cookiecutter")
_COUNTED = frozenset(
    {"max", "min", "num", "n", "total", "prompt", "completion", "estimated", "count", "output", "input"}
)
_SESSIONS = frozenset({"jsessionid", "phpsessid", "sessid", "sessionid", "connectsid"})


def kind_of_name(name: str) -> NameKind | None:
    """What a field of this name holds: `dbPassword` a password, `secretName` no secret (None)."""
    name = name if name.isascii() else normalize("NFKC", name)  # of full-width letters
    return _judge(name) if len(name) <= 256 else _judge(name[-256:])


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret (`dbPassword`), and not something about one (`secretName`)."""
    return kind_of_name(name) is not None


def split_words(name: str) -> list[str]:
    """`spring.dataSource_URL` as `[spring, data, source, url]`."""
    return [word.lower() for word in _WORD.findall(name)]


@lru_cache(maxsize=16_384)
def _judge(name: str) -> NameKind | None:
    if "[redacted:" in name:  # a key that held one itself
        return None
    words = split_words(name)
    while words and words[-1].isdigit():  # password2
        words.pop()
    if not words or _speaks_about(words):
        return None
    return _by_pairs(words) or _by_word(words)


def _speaks_about(words: list[str]) -> bool:
    last = words[-1]
    hashed = last == "hash" and any("passw" in word for word in words)  # what a password can be guessed against
    happened = last.endswith("ed") and last not in ("shared", "hashed", "encoded", "encrypted", "unencrypted", "embed")
    about = (
        (last in _ABOUT and not hashed)
        or happened
        or words[0] in ("checksum", "hash", "no", "has", "is", "public", "pub")
    )
    # existingSecret, imagePullSecrets, existingSecretPasswordKey: names of Secrets and of keys in them.
    refers = any(word in ("existing", "pull") for word in words) and any("secret" in word for word in words)
    names_key = last == "key" and len(words) > 1 and words[-2] in ("password", "username", "user", "token")
    counted = last == "tokens" and any(word in _COUNTED for word in words)
    return about or refers or names_key or counted or any(_NO_TOKEN.match(word) for word in words)


def _by_pairs(words: list[str]) -> NameKind | None:
    pairs = list(pairwise(words))
    if ("connection", "string") in pairs or ("conn", "str") in pairs:
        return NameKind.CONNECTION
    if ("public", "key") in pairs:
        return None
    if pairs[-1:] == [("key", "data")]:  # of a client's certificate
        return NameKind.KEY
    # client-key-data holds the key itself; keySize is about it, and was told above.
    if any(second in ("key", "keys") and first in _KEYED for first, second in pairs):
        return NameKind.KEY
    if ("amz", "signature") in pairs or ("goog", "signature") in pairs:
        return NameKind.KEY
    return NameKind.COOKIE if ("set", "cookie") in pairs or ("connect", "sid") in pairs else None


def _by_word(words: list[str]) -> NameKind | None:
    for word in reversed(words):
        for kind, pattern in _WORDS:
            if pattern.fullmatch(word) and word not in _NO_PASS:
                return kind
    joined = "".join(words)
    if joined in _SESSIONS or words[-1] in _SESSIONS or joined in ("cookie", "cookies", "setcookie"):
        return NameKind.COOKIE
    if joined == "dockerconfigjson":
        return NameKind.CONNECTION
    return NameKind.CREDENTIAL if words[-1] == "auth" else NameKind.KEY if joined == "sig" else None


def normalise_name(name: str) -> str:
    """The form in which names are compared with those of the settings: `Db-Password` and `dbPassword` are one."""
    return "".join(split_words(name))


def normalise_names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(normalise_name(name) for name in names)
