"""Secrets of every kind, drawn by seed and put together when the program runs: no file holds one that looks real."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
DIGITS = "0123456789"
HEX = DIGITS + "abcdef"
WORD = LOWER + UPPER + DIGITS
SAFE = WORD + "_-"
BASE64 = WORD + "+/"
BASE32 = UPPER + "234567"

Draw = Callable[[str, int], str]
Kind = Callable[[Draw], str]


def _block(label: str) -> Kind:
    def make(draw: Draw) -> str:
        lines = "\n".join(draw(BASE64, 64) for _ in range(4))
        return f"{'-' * 5}BEGIN {label}{'-' * 5}\n{lines}\n{draw(BASE64, 38)}==\n{'-' * 5}END {label}{'-' * 5}"

    return make


def _encode(data: str) -> str:
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def _jwt(draw: Draw) -> str:
    head = _encode(json.dumps({"alg": "RS256", "kid": draw(HEX, 8), "typ": "JWT"}))
    body = _encode(
        json.dumps({"sub": f"system:serviceaccount:payments:{draw(LOWER, 6)}", "iat": int(draw("123456789", 10))})
    )
    return f"{head}.{body}.{draw(SAFE, 86)}"


def _uuid(draw: Draw) -> str:
    return "-".join(draw(HEX, size) for size in (8, 4, 4, 4, 12))


def _putty(draw: Draw) -> str:
    lines = "\n".join(draw(BASE64, 64) for _ in range(2))
    return (
        f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 2\n{lines}\nPrivate-MAC: {draw(HEX, 64)}"
    )


KINDS: dict[str, Kind] = {
    "age_key": lambda draw: "AGE-SECRET-" + "KEY-1" + draw("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "airtable_token": lambda draw: f"pat{draw(WORD, 14)}.{draw(HEX, 64)}",
    "alibaba_key": lambda draw: "LT" + "AI" + draw(WORD, 20),
    "anthropic_key": lambda draw: "sk-" + "ant-api03-" + draw(SAFE, 93) + "AA",
    "artifactory_token": lambda draw: "AK" + "Cp" + draw(WORD, 69),
    "atlassian_token": lambda draw: "ATA" + "TT3xFfGF0" + draw(SAFE, 180) + "=" + draw(HEX.upper(), 8),
    "aws_key_id": lambda draw: "AK" + "IA" + draw(BASE32, 16),
    "aws_session_token": lambda draw: "IQoJb3" + "JpZ2lu" + draw(BASE64, 300) + "==",
    "azure_client_secret": lambda draw: draw(WORD, 3) + "8" + "Q~" + draw(SAFE, 34),
    "bedrock_key": lambda draw: "AB" + "SK" + draw(BASE64, 128),
    "bitbucket_token": lambda draw: "AT" + "BB" + draw(WORD, 32),
    "clojars_token": lambda draw: "CLO" + "JARS_" + draw(LOWER + DIGITS, 60),
    "cloudflare_key": lambda draw: f"v1.0-{draw(HEX, 24)}-{draw(HEX, 146)}",
    "contentful_token": lambda draw: "CF" + "PAT-" + draw(SAFE, 43),
    "databricks_token": lambda draw: "da" + "pi" + draw(HEX, 32),
    "digitalocean_token": lambda draw: "do" + "p_v1_" + draw(HEX, 64),
    "discord_token": lambda draw: f"M{draw(WORD, 25)}.{draw(SAFE, 6)}.{draw(SAFE, 38)}",
    "docker_token": lambda draw: "dckr_" + "pat_" + draw(SAFE, 27),
    "doppler_token": lambda draw: "dp." + "st.prd." + draw(WORD, 43),
    "dropbox_token": lambda draw: "sl" + "." + draw(SAFE, 135),
    "dynatrace_token": lambda draw: f"dt0{'c01'}.{draw(BASE32, 24)}.{draw(BASE32, 64)}",
    "easypost_key": lambda draw: "EZ" + "AK" + draw(WORD, 54),
    "facebook_token": lambda draw: "EA" + "AC" + draw(WORD, 120),
    "figma_token": lambda draw: "fig" + "d_" + draw(SAFE, 40),
    "flyio_token": lambda draw: "fo" + "1_" + draw(SAFE, 43),
    "github_app_token": lambda draw: "gh" + "s_" + draw(WORD, 36),
    "github_fine_token": lambda draw: "github_" + "pat_" + draw(WORD, 22) + "_" + draw(WORD, 59),
    "github_token": lambda draw: "gh" + "p_" + draw(WORD, 36),
    "gitlab_runner_token": lambda draw: "gl" + "rt-" + draw(SAFE, 20),
    "gitlab_token": lambda draw: "gl" + "pat-" + draw(SAFE, 20),
    "google_key": lambda draw: "AI" + "za" + draw(SAFE, 35),
    "google_oauth_secret": lambda draw: "GOC" + "SPX-" + draw(SAFE, 28),
    "google_token": lambda draw: "ya" + "29." + draw(SAFE, 120),
    "grafana_token": lambda draw: f"gl{'sa'}_{draw(WORD, 32)}_{draw(HEX, 8)}",
    "groq_key": lambda draw: "gs" + "k_" + draw(WORD, 52),
    "harness_token": lambda draw: f"pat.{draw(WORD, 22)}.{draw(HEX, 24)}.{draw(WORD, 20)}",
    "heroku_key": lambda draw: "HR" + "KU-AA" + draw(SAFE, 58),
    "hubspot_token": lambda draw: "pat-" + "na1-" + _uuid(draw),
    "huggingface_token": lambda draw: "h" + "f_" + draw(LOWER + UPPER, 34),
    "jwt": _jwt,
    "linear_key": lambda draw: "lin_" + "api_" + draw(WORD, 40),
    "mailchimp_key": lambda draw: draw(HEX, 32) + "-us" + "14",
    "mailgun_key": lambda draw: "key" + "-" + draw(HEX, 32),
    "netlify_token": lambda draw: "nf" + "p_" + draw(WORD, 40),
    "new_relic_key": lambda draw: "NR" + "AK-" + draw(UPPER + DIGITS, 27),
    "notion_token": lambda draw: "nt" + "n_" + draw(DIGITS, 11) + draw(WORD, 35),
    "npm_token": lambda draw: "np" + "m_" + draw(WORD, 36),
    "okta_header": lambda draw: "SS" + "WS 00" + draw(SAFE, 40),
    "openai_key": lambda draw: "sk-" + "proj-" + draw(SAFE, 74) + "T3BlbkFJ" + draw(SAFE, 74),
    "openshift_token": lambda draw: "sha256" + "~" + draw(SAFE, 43),
    "pagerduty_key": lambda draw: "u" + "+" + draw(SAFE[:-1], 18),
    "password_hash_apr1": lambda draw: f"$apr1${draw(WORD, 8)}${draw(WORD, 22)}",
    "password_hash_argon2": lambda draw: f"$argon2id$v=19$m=65536,t=3,p=4${draw(BASE64, 22)}${draw(BASE64, 43)}",
    "password_hash_bcrypt": lambda draw: f"$2y$10${draw(WORD, 53)}",
    "password_hash_sha512": lambda draw: f"$6${draw(WORD, 16)}${draw(WORD, 86)}",
    "pgp_key": _block("PGP PRIVATE KEY BLOCK"),
    "planetscale_token": lambda draw: "pscale_" + "tkn_" + draw(SAFE, 43),
    "postman_key": lambda draw: f"PM{'AK'}-{draw(HEX, 24)}-{draw(HEX, 34)}",
    "private_key": _block("PRIVATE KEY"),
    "private_key_openssh": _block("OPENSSH PRIVATE KEY"),
    "private_key_putty": _putty,
    "private_key_rsa": _block("RSA PRIVATE KEY"),
    "pulumi_token": lambda draw: "pu" + "l-" + draw(HEX, 40),
    "pypi_token": lambda draw: "py" + "pi-AgEIcHlwaS5vcmc" + draw(SAFE, 120),
    "replicate_token": lambda draw: "r" + "8_" + draw(WORD, 37),
    "rubygems_key": lambda draw: "ruby" + "gems_" + draw(HEX, 48),
    "sendgrid_key": lambda draw: f"S{'G'}.{draw(SAFE, 22)}.{draw(SAFE, 43)}",
    "sendinblue_key": lambda draw: f"xkey{'sib'}-{draw(HEX, 64)}-{draw(WORD, 16)}",
    "sentry_token": lambda draw: "sn" + "tryu_" + draw(HEX, 64),
    "shopify_token": lambda draw: "sh" + "pat_" + draw(HEX, 32),
    "slack_token": lambda draw: f"xo{'xb'}-{draw(DIGITS, 12)}-{draw(DIGITS, 12)}-{draw(WORD, 24)}",
    "slack_webhook": lambda draw: f"https://hooks.{'slack'}.com/services/T{draw(BASE32, 8)}/B0/{draw(WORD, 24)}",
    "sonar_token": lambda draw: "sq" + "u_" + draw(HEX, 40),
    "sourcegraph_token": lambda draw: "sg" + "p_" + draw(HEX, 40),
    "square_token": lambda draw: "sq0" + "atp-" + draw(SAFE, 22),
    "stripe_key": lambda draw: "sk_" + "live_" + draw(WORD, 24),
    "stripe_webhook_key": lambda draw: "wh" + "sec_" + draw(WORD, 32),
    "supabase_key": lambda draw: "sb" + "p_" + draw(HEX, 40),
    "tailscale_key": lambda draw: "ts" + "key-auth-" + draw(WORD, 12) + "CNTRL-" + draw(WORD, 32),
    "telegram_token": lambda draw: draw("123456789", 10) + ":A" + "A" + draw(SAFE, 33),
    "terraform_token": lambda draw: f"{draw(WORD, 14)}.{'atlas'}v1.{draw(SAFE, 67)}",
    "twilio_key": lambda draw: "S" + "K" + draw(HEX, 32),
    "typeform_token": lambda draw: "tf" + "p_" + draw(SAFE, 59),
    "vault_token": lambda draw: "hv" + "s." + draw(SAFE, 95),
    "xai_key": lambda draw: "xa" + "i-" + draw(WORD, 80),
}  # fmt: skip
"""Known by their form wherever they stand: kind and how one is drawn. One line but for the blocks of keys."""

NAMED_KINDS: dict[str, Kind] = {
    "aws_secret_key": lambda draw: draw(BASE64, 40),
    "azure_storage_key": lambda draw: draw(BASE64, 86) + "==",
    "datadog_key": lambda draw: draw(HEX, 32),
    "gitea_token": lambda draw: draw(HEX, 40),
    "passphrase": lambda draw: "-".join(draw(LOWER, size) for size in (5, 4, 7, 6)),
    "password_of_people": lambda draw: draw(UPPER, 1) + draw(LOWER, 6) + draw(DIGITS, 4) + "!",
    "password_of_symbols": lambda draw: (
        draw(LOWER, 4) + "#" + draw(DIGITS, 2) + "%" + draw(UPPER, 4) + "*" + draw(LOWER, 3)
    ),
    "password_random": lambda draw: draw(WORD, 24),
    "password_short": lambda draw: draw(LOWER, 4) + draw(DIGITS, 2),
    "snyk_token": _uuid,
}
"""Known by the name that they stand behind, or by the place."""


def draw_by(seed: int, kind: str) -> Draw:
    """Draws characters of an alphabet; the same for the same seed and kind."""
    chance = random.Random(f"{kind} {seed}")  # a corpus, not a key
    return lambda alphabet, size: "".join(chance.choice(alphabet) for _ in range(size))


def draw_secret(kind: str, seed: int) -> str:
    """One secret of the kind; another for another seed."""
    return (KINDS | NAMED_KINDS)[kind](draw_by(seed, kind))


def draw_secrets(seed: int, *, named: bool = False) -> Iterator[tuple[str, str]]:
    """(kind, secret text) of every kind, by seed; with `named` also those that only a name or a place gives away."""
    for kind in sorted(KINDS | NAMED_KINDS if named else KINDS):
        yield kind, draw_secret(kind, seed)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in base64": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "json": lambda text: json.dumps({"password": text}),
    "json in json": lambda text: json.dumps({"spec": json.dumps({"token": text})}),
    "json three deep": lambda text: json.dumps({"a": json.dumps({"b": json.dumps({"secret": text})})}),
    "plain": lambda text: text,
    "unicode escapes": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "url": lambda text: quote(text, safe=""),
}
"""How a source can hold the text of a secret that is known by its form."""


def list_encodings() -> tuple[str, ...]:
    """The names of the encodings that the sources produce, for `encode`."""
    return tuple(sorted(ENCODINGS))


def encode(name: str, text: str) -> str:
    """The text in that encoding."""
    return ENCODINGS[name](text)


def pack_release(text: str) -> str:
    """A Helm release as its Secret holds it once Kubernetes' own base64 is off: base64 of gzip of JSON."""
    return base64.b64encode(gzip.compress(json.dumps({"config": {"password": text}}).encode(), mtime=0)).decode()


def hash_password(text: str) -> str:
    """As Redis ACLs hold a password: `#` and the SHA-256 of it, without a salt."""
    return "#" + hashlib.sha256(text.encode()).hexdigest()
