"""What secrets of well-known kinds look like, in RE2 (linear in the text, whatever it is)."""

# ruff: noqa: E501  # a table, one kind a line

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """The whole match of `pattern` is the secret, or its one group where it has one. `hint` matches wherever `pattern`
    does, and more: one automaton looks for all hints at once, so a hint counts as little as it can.

    `unsalted`: it is made from a password without a salt, so that whoever sees two can compare what was hashed.
    `judge` has the last word where the pattern alone says too much."""

    kind: str
    hint: str
    pattern: str
    unsalted: bool = False
    judge: Callable[[str], bool] | None = None


_BLOCK = r"-----BEGIN {0}-----[\s\S]*?(?:-----END {0}-----|\z)"

SHAPES: tuple[Shape, ...] = (
    Shape("age_key", r"AGE-SECRET-", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    Shape("airtable_token", r"\bpat[A-Za-z0-9]{14}\.", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}\b"),
    Shape("alibaba_key", r"\bLTAI", r"\bLTAI[A-Za-z0-9]{12,30}\b"),
    Shape("anthropic_key", r"sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    Shape("artifactory_token", r"\bAKCp|\bcmVmd", r"\b(?:AKCp[A-Za-z0-9]{60,}|cmVmd[A-Za-z0-9]{59})\b"),
    Shape("atlassian_token", r"AT[AC]TT3", r"\b(?:ATATT3|ATCTT3)[A-Za-z0-9_=-]{40,}"),
    Shape("aws_key_id", r"\bA(?:KIA|SIA|BIA|CCA|IDA|ROA)", r"\b(?:AKIA|ASIA|ABIA|ACCA|AIDA|AROA)[A-Z0-9]{16}\b"),
    Shape("aws_session_token", r"IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz|AQoDYXdz", r"\b(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz|AQoDYXdz)[A-Za-z0-9+/=]{40,}"),
    Shape("azure_client_secret", r"\dQ~", r"\b[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    Shape("azure_key", r"(?i:AccountKey|SharedAccessKey|AccessKey)=", r"(?i:\b(?:AccountKey|SharedAccessKey|AccessKey)=)([A-Za-z0-9+/]{20,}={0,2})"),
    Shape("azure_sas", r"(?i:[?&;]sig=)", r"(?i:[?&;]sig=)([A-Za-z0-9%+/_-]{20,}={0,2})"),
    Shape("bedrock_key", r"\bABSK", r"\bABSK[A-Za-z0-9+/]{100,}={0,2}"),
    Shape("bitbucket_token", r"\bATBB", r"\bATBB[A-Za-z0-9]{24,}"),
    Shape("clojars_token", r"CLOJARS_", r"\bCLOJARS_[a-z0-9]{50,}"),
    Shape("cloudflare_key", r"\bv1\.0-[a-f0-9]{6}", r"\bv1\.0-[a-f0-9]{24}-[a-f0-9]{100,}"),
    Shape("contentful_token", r"CFPAT-", r"\bCFPAT-[A-Za-z0-9_-]{40,}"),
    Shape("databricks_token", r"\bdapi[a-f0-9]", r"\bdapi[a-f0-9]{32}(?:-\d)?\b"),
    Shape("digitalocean_token", r"do[opr]_v1_", r"\bdo[opr]_v1_[a-f0-9]{40,}"),
    Shape("discord_token", r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}", r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    Shape("discord_webhook", r"/api/webhooks/", r"\bdiscord(?:app)?\.com/api/webhooks/(\d{10,}/[A-Za-z0-9_-]{40,})"),
    Shape("docker_token", r"dckr_", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    Shape("doppler_token", r"\bdp\.(?:audit|ct|pt|sa|scim|st)\.", r"\bdp\.(?:audit|ct|pt|sa|scim|st)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,}"),
    Shape("dropbox_token", r"\bsl\.[A-Za-z0-9_=-]{20}", r"\bsl\.[A-Za-z0-9_=-]{100,}"),
    Shape("dynatrace_token", r"\bdt0[a-z]\d\d\.", r"\bdt0[a-z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}\b"),
    Shape("easypost_key", r"\bEZ[AT]K", r"\bEZ[AT]K[A-Za-z0-9]{54}\b"),
    Shape("facebook_token", r"\bEAA[BCM]", r"\bEAA[BCM][A-Za-z0-9]{80,}"),
    Shape("figma_token", r"\bfig[do]_", r"\bfig[do]_[A-Za-z0-9_-]{36,}"),
    Shape("flyio_token", r"\bfo1_|\bfm[12][ar]?_", r"\b(?:fo1_[A-Za-z0-9_-]{40,}|fm[12][ar]?_[A-Za-z0-9+/]{80,}={0,3})"),
    Shape("frameio_token", r"fio-u-", r"\bfio-u-[A-Za-z0-9_=-]{60,}"),
    Shape("github_token", r"gh[pousr]_|github_pat_", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    Shape("gitlab_token", r"\bgl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-|GR1348941", r"\b(?:gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[A-Za-z0-9_.-]{16,}|GR1348941[A-Za-z0-9_-]{20})"),
    Shape("google_key", r"\bAIza", r"\bAIza[A-Za-z0-9_-]{30,}"),
    Shape("google_oauth_secret", r"GOCSPX-", r"\bGOCSPX-[A-Za-z0-9_-]{20,}"),
    Shape("google_token", r"\bya29\.|1//0", r"\b(?:ya29\.[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{40,})"),
    Shape("grafana_token", r"\bglsa_|\bglc_|eyJrIjoi", r"\b(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,}={0,3}|eyJrIjoi[A-Za-z0-9]{60,}={0,3})"),
    Shape("groq_key", r"\bgsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
    Shape("harness_token", r"\b[ps]at\.[A-Za-z0-9_-]{22}\.", r"\b[ps]at\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}\b"),
    Shape("heroku_key", r"HRKU-", r"\bHRKU-[A-Za-z0-9_-]{36,}"),
    Shape("hubspot_token", r"\bpat-(?:na|eu|ap)\d-", r"\bpat-(?:na|eu|ap)\d-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}\b"),
    Shape("huggingface_token", r"\bhf_|\bapi_org_", r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),
    Shape("infracost_key", r"\bico-[A-Za-z0-9]{8}", r"\bico-[A-Za-z0-9]{32}\b"),
    Shape("jwt", r"\bey[JK][A-Za-z0-9_-]{8}", r"\bey[JK][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}"),
    Shape("linear_key", r"lin_(?:api|oauth)_", r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    Shape("mailchimp_key", r"[a-f0-9]-us\d", r"\b[a-f0-9]{32}-us\d{1,2}\b"),
    Shape("mailgun_key", r"\bkey-[a-f0-9]{8}", r"\bkey-[a-f0-9]{32}\b"),
    Shape("maxmind_key", r"_mmk", r"\b[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b"),
    Shape("netlify_token", r"\bnf[pcoub]_", r"\bnf[pcoub]_[A-Za-z0-9]{36,}"),
    Shape("new_relic_key", r"\bNR(?:AK|II|JS|RA)-", r"\bNR(?:AK-[A-Z0-9]{27}|II-[A-Za-z0-9_-]{32}|JS-[a-f0-9]{19}|RA-[a-f0-9]{42})\b"),
    Shape("notion_token", r"\bntn_|\bsecret_[A-Za-z0-9]{16}", r"\b(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}\b)"),
    Shape("npm_token", r"\bnpm_", r"\bnpm_[A-Za-z0-9]{30,}"),
    Shape("nuget_key", r"\boy2[a-z0-9]{8}", r"\boy2[a-z0-9]{43}\b"),
    Shape("octopus_key", r"\bAPI-[A-Z0-9]{6}", r"\bAPI-[A-Z0-9]{26}\b"),
    Shape("okta_token", r"SSWS", r"\bSSWS\s+([A-Za-z0-9_-]{20,})"),
    Shape("onepassword_key", r"\bops_eyJ|\bA3-[A-Z0-9]{6}-", r"\b(?:ops_eyJ[A-Za-z0-9+/]{60,}={0,3}|A3-[A-Z0-9]{6}(?:-[A-Z0-9]{5,11}){4,5}\b)"),
    Shape("openai_key", r"\bsk-[A-Za-z0-9_-]{20}", r"\bsk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{20,}"),
    Shape("openshift_token", r"sha256~", r"\bsha256~[A-Za-z0-9_-]{43}"),
    Shape("pagerduty_key", r"\b[uy]\+[A-Za-z0-9_-]{6}", r"\b[uy]\+[A-Za-z0-9_-]{18}\b"),
    Shape("password_hash", r"\$(?:2[abxy]?|5|6|7|y|gy|argon2(?:id|i|d)|pbkdf2|scrypt|bcrypt)[-a-z0-9]{0,8}\$", r"\$(?:2[abxy]?|5|6|7|y|gy|argon2(?:id|i|d)|pbkdf2(?:-sha\d+)?|scrypt|bcrypt-sha256)\$[A-Za-z0-9./$=,+-]{20,}"),
    Shape("password_hash", r"\$(?:1|apr1|P|H)\$", r"\$(?:1|apr1|P|H)\$[A-Za-z0-9./]{0,8}\$?[A-Za-z0-9./]{22,}"),
    Shape("password_hash", r"\b(?:pbkdf2_sha|bcrypt_sha256|argon2|scrypt)\d{0,3}\$", r"\b(?:pbkdf2_sha(?:1|256|512)|bcrypt_sha256|argon2|scrypt)\$+[A-Za-z0-9$=,+/.]{20,}"),
    Shape("password_hash", r"SCRAM-SHA-", r"\bSCRAM-SHA-(?:1|256|512)\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+"),
    Shape("password_hash", r"\{(?:SSHA|SMD5|PBKDF2)", r"\{(?:SSHA|SMD5|SSHA256|SSHA512|PBKDF2[A-Z0-9-]*)\}[A-Za-z0-9+/=.$]{20,}"),
    Shape("password_hash", r"\{(?:SHA|MD5|CRYPT)", r"\{(?:SHA|MD5|SHA256|SHA512|CRYPT)\}[A-Za-z0-9+/=.$]{13,}", unsalted=True),
    Shape("password_hash", r"\*[A-F0-9]{8}", r"(?:^|[\s'\"])(\*[A-F0-9]{40})\b", unsalted=True),  # MySQL
    Shape("password_hash", r"['\"]md5[a-f0-9]{8}", r"['\"](md5[a-f0-9]{32})['\"]", unsalted=True),  # PostgreSQL
    Shape("perplexity_key", r"\bpplx-", r"\bpplx-[A-Za-z0-9]{40,}"),
    Shape("planetscale_token", r"pscale_", r"\bpscale_(?:oauth|pw|tkn)_[A-Za-z0-9_=.-]{30,}"),
    Shape("postman_key", r"PMAK-", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b"),
    Shape("prefect_key", r"\bpnu_", r"\bpnu_[A-Za-z0-9]{36}\b"),
    Shape("private_key", r"PRIVATE KEY(?: BLOCK)?-----", _BLOCK.format(r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?")),
    Shape("private_key", r"PuTTY-User-Key-File", r"PuTTY-User-Key-File-\d:[\s\S]*?(?:Private-(?:MAC|Hash): ?[0-9a-f]+|\z)"),
    Shape("private_key", r'"d"\s*:\s*"[A-Za-z0-9_-]{8}', r'"d"\s*:\s*"[A-Za-z0-9_-]{40,}"'),  # of a JWK
    Shape("pulumi_token", r"\bpul-[a-f0-9]{6}", r"\bpul-[a-f0-9]{40}\b"),
    Shape("pypi_token", r"pypi-[A-Za-z0-9_-]{8}", r"\bpypi-[A-Za-z0-9_-]{30,}"),
    Shape("readme_key", r"\brdme_", r"\brdme_[a-z0-9]{60,}"),
    Shape("replicate_token", r"\br8_", r"\br8_[A-Za-z0-9]{37}\b"),
    Shape("rubygems_key", r"rubygems_", r"\brubygems_[a-f0-9]{48}\b"),
    Shape("scalingo_token", r"tk-us-", r"\btk-us-[A-Za-z0-9_-]{48}"),
    Shape("sendgrid_key", r"\bSG\.[A-Za-z0-9_-]{8}", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    Shape("sendinblue_key", r"xkeysib-", r"\bxkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}\b"),
    Shape("sentry_token", r"sntry[su]_", r"\b(?:sntry[su]_[A-Za-z0-9+/=_-]{40,})"),
    Shape("shippo_token", r"shippo_", r"\bshippo_(?:live|test)_[a-fA-F0-9]{40}\b"),
    Shape("shopify_token", r"shp(?:at|ca|pa|ss)_", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b"),
    Shape("slack_token", r"\bxox[abeoprs][-.]|\bxapp-\d", r"\b(?:xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-\d-[A-Z0-9]+-\d+-[A-Za-z0-9]+)"),
    Shape("slack_webhook", r"hooks\.slack", r"\bhooks\.slack(?:-gov)?\.com/(?:services|triggers|workflows)/([A-Za-z0-9/_-]{20,})"),
    Shape("sonar_token", r"\bsq[pua]_", r"\bsq[pua]_[a-f0-9]{40}\b"),
    Shape("sourcegraph_token", r"\bsgp_", r"\bsgp_(?:(?:[a-fA-F0-9]{16}|local)_)?[a-fA-F0-9]{40}\b"),
    Shape("square_token", r"\bEAAA|\bsq0(?:atp|csp|idp)-", r"\b(?:EAAA[A-Za-z0-9_-]{56,}|sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,})"),
    Shape("stripe_key", r"[rs]k_(?:live|prod|test)_|whsec_", r"\b(?:[rs]k_(?:live|prod|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=_-]{24,})"),
    Shape("supabase_key", r"sbp_|sb_secret_", r"\b(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})\b"),
    Shape("tailscale_key", r"tskey-", r"\btskey-(?:api|auth|client|scim|webhook)-[A-Za-z0-9]+-[A-Za-z0-9]{16,}"),
    Shape("teams_webhook", r"webhookb2/", r"\bwebhook\.office\.com/webhookb2/([A-Za-z0-9@/-]{60,})"),
    Shape("telegram_token", r"\d:AA[A-Za-z0-9_-]", r"(?:\b|\bbot)(\d{8,10}:AA[A-Za-z0-9_-]{33})"),
    Shape("terraform_token", r"\.atlasv1\.", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{50,}"),
    Shape("twilio_key", r"\bSK[0-9a-f]{8}", r"\bSK[0-9a-f]{32}\b"),
    Shape("typeform_token", r"\btfp_", r"\btfp_[A-Za-z0-9_.=-]{50,}"),
    Shape("vault_token", r"\bhv[sbr]\.|\bs\.[A-Za-z0-9]{8}", r"\b(?:hv[sbr]\.[A-Za-z0-9_-]{20,}|s\.[A-Za-z0-9]{24}\b)"),
    Shape("xai_key", r"\bxai-", r"\bxai-[A-Za-z0-9]{60,}"),
    Shape("yandex_key", r"\bAQVN|\bYC[A-Za-z0-9_-]{8}|\bt1\.[A-Za-z0-9_-]", r"\b(?:AQVN[A-Za-z0-9_-]{35,38}|YC[A-Za-z0-9_-]{38}|t1\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]{80,}={0,2})"),
)  # fmt: skip
"""Kinds that are known by their form alone, sorted."""
