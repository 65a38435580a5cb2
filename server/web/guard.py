"""What protects the pages in a browser: cookies, headers, and the proof that a form is ours and was sent from here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ...policies.errors import BadConfiguration, Denied, Invalid

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # Not `no-referrer`: with that a browser sends `Origin: null` with our own forms (Fetch standard, section 3.2).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
FORM_LIMIT = 32_768
"""The most bytes of a form."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Foreign(Denied):
    """A form that this session's pages did not make, or that another site sent."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie of ours: for this host alone, out of reach of scripts, not sent along by other sites' requests."""

    name: str
    secure: bool
    max_age: int | None = None

    def read(self, request: Request) -> str:
        """Its value; "" when there is none, or several: then somebody else on this host has planted one, and which is
        ours is nobody's to guess."""
        pairs = (pair.partition("=") for header in request.headers.getlist("cookie") for pair in header.split(";"))
        values = {value.strip() for name, _, value in pairs if name.strip() == self.name}
        return values.pop() if len(values) == 1 else ""

    def write(self, response: Response, value: str) -> None:
        response.set_cookie(
            self.name, value, max_age=self.max_age, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def clear(self, response: Response) -> None:
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="lax")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the pages are, as browsers see it."""

    scheme: str
    netloc: str

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raises `BadConfiguration` for plain http that leaves the machine: the cookies would travel in the clear."""
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise BadConfiguration(
                "http.public_url: the approval pages need https, or a loopback address.",
                field="http.public_url",
                hint="Set it to the https URL under which browsers reach Arborgate.",
            )
        return cls(parts.scheme, parts.netloc)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    def cookie(self, name: str, max_age: int | None = None) -> Cookie:
        """`__Host-` and Secure; over http on loopback a plain one, as not every browser takes Secure there."""
        secure = self.scheme == "https"
        return Cookie(f"__Host-{name}" if secure else name, secure, max_age)

    def check_sender(self, request: Request) -> None:
        """Raises `Foreign` unless the browser says that one of our own pages sent this request."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin is None and site is None:
            raise Foreign("The browser did not say which page sent this form.", hint="Use a current browser.")
        if (origin is not None and origin != str(self)) or (site is not None and site != "same-origin"):
            raise Foreign("This form was sent from another site.", detail=f"origin {origin}, site {site}")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name. Raises `Invalid` for anything else."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Invalid("This is not a form.")
    body = await request.body()
    if len(body) > FORM_LIMIT:
        raise Invalid(f"The form is larger than {FORM_LIMIT} bytes.", hint="Shorten the comment.")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=64)
    except ValueError as error:
        raise Invalid("The form can't be read.") from error
    # A browser sends line breaks as CRLF (HTML standard, section 4.10.21.7).
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def check_token(form: Mapping[str, str], csrf: str) -> None:
    """Raises `Foreign` unless the form holds this session's own token."""
    if not secrets.compare_digest(form.get("csrf", "").encode(), csrf.encode()):
        raise Foreign("This form is not from your session.", hint="Reload the page and try again.")
