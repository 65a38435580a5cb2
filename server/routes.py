"""The routes beside `/mcp`: the approval pages, the terminal's, child tokens and the bridge's own description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..policies.errors import BadConfiguration
from ..tools.environments import UNASSIGNED
from .approvals import load_signing_key, sign_approval
from .connect.registration import CLIENT_DOCUMENT_PATH, client_document
from .http import Authenticator, describe_resource
from .identity.exchange import TokenExchange
from .identity.presenting import ClientCertificates
from .identity.roles import limit_roles
from .masking import Masker
from .protected import protect_approvals
from .settings import Settings
from .signed_heads import read_public_key
from .thresholds import Thresholds
from .web.logout import LogoutHook
from .web.pages import Pages

if TYPE_CHECKING:
    from .app import Services


def read_certificates(settings: Settings) -> ClientCertificates | None:
    """How client certificates come in from the proxies; None where the settings name no header for them."""
    http = settings.http
    return ClientCertificates(http.client_cert_header, http.trusted_proxies) if http.client_cert_header else None


def build_exchange(services: Services) -> list[BaseRoute]:
    """The endpoints of child tokens; none when the settings leave them out."""
    settings = services.settings
    if services.children is None:
        return []
    exchange = TokenExchange(
        settings.http.url,
        identity=services.identity,
        tokens=services.children,
        engine=lambda: services.policies.current,
        tree=services.tree,
        limits=services.limits,
        recorder=services.audit,
        metrics=services.metrics,
        certificates=read_certificates(settings),
    )
    return [*exchange.routes(), *services.own_keys.routes()]


def build_pages(services: Services) -> list[BaseRoute]:
    """The approval pages and the terminal's endpoints; none when the settings name no login for them."""
    settings = services.settings
    login = settings.identity.pages
    if login is None:
        return []
    key = load_signing_key(settings.proposals.signing_key_file)
    url = settings.http.url

    issuer = settings.identity.pages_issuer(login)
    approvals = protect_approvals(url, settings.identity, login)
    terminal = Authenticator(
        services.identity, services.audit, services.metrics, approvals, read_certificates(settings)
    )
    thresholds = Thresholds(lambda: services.policies.current, services.tree.resource, settings.proposals)
    described = Route(approvals.metadata_path, describe_resource(approvals))

    pages = Pages(
        settings=login,
        issuer=issuer,
        identify=services.identity.identify,
        url=url,
        roles=limit_roles(settings.roles, issuer.roles),
        state=services.state,
        engine=lambda: services.policies.current,
        tree=services.tree,
        book=services.proposals,
        records=services.records,
        audit=services.audit,
        sign=lambda approval: sign_approval(approval, key),
        terminal=terminal.authenticate,
        client=services.web,
        clean=services.redactor.clean_text,
        masker=Masker(settings.personal),
        demo=settings.demo,
        acr_values=settings.identity.step_up.acr_values,
        glass_lasts=settings.proposals.break_glass_lasts,
        logs=settings.record.dir,
        replica=settings.replica,
        record_key=read_public_key(settings.record.signing_key_file),
        denied=services.denied,
        passkeys=settings.proposals.passkeys,
        notify=settings.notify,
        environments=[rule.name for rule in settings.environments] + [UNASSIGNED],
        must_sign=thresholds.must_sign,
        live=services.clusters,
        ladder=settings.promotion,
        on_logout=end_tokens_with(services) if login.logout_ends_tokens else None,
    )
    return [*pages.routes(), described]


def end_tokens_with(services: Services) -> LogoutHook:
    """What a logout at the provider does besides: shuts out the tokens that the person has."""
    denied = services.denied
    if denied is None:
        raise BadConfiguration("identity.pages.logout_ends_tokens: needs identity.deny_list.enabled")

    async def shut_out(issuer: str, subject: str) -> None:
        await denied.deny_person(f"{issuer}#{subject}", reason="logged out at the provider")

    return shut_out


def build_client_document(settings: Settings) -> list[BaseRoute]:
    """Where `arborgate connect` describes itself to providers (Client ID Metadata Documents); none without https."""
    document = client_document(settings.http.url)
    if document is None:
        return []

    async def answer(_request: Request) -> Response:
        return JSONResponse(document, headers={"Cache-Control": "max-age=3600"})

    return [Route(CLIENT_DOCUMENT_PATH, answer)]
