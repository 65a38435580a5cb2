"""Requests for a token exchange that are malformed, and what may be left out of one or added to it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from arborgate.server.identity.exchange import EXCHANGE_PATH
from tests.identity.exchanging import URL, Replica, open_replicas
from tests.identity.proving import Prover

pytestmark = pytest.mark.anyio


@pytest.fixture
async def replica(tmp_path: Path, redis_url: str, anyio_backend: str) -> AsyncIterator[Replica]:
    async with open_replicas(tmp_path, redis_url) as (one,):
        yield one


@pytest.fixture
def prover() -> Prover:
    return Prover()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token": "nonsense"}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"audience": None}, "invalid_request"),
        ({"resource": "https://elsewhere.test/mcp"}, "invalid_target"),
        ({"actor_token": "x"}, "invalid_request"),
    ],
)
async def test_a_malformed_request_says_what_is_wrong(
    replica: Replica, prover: Prover, fields: dict[str, str | None], error: str
) -> None:
    answer = await replica.exchange(replica.controller(), prover, **fields)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]


async def test_what_is_optional_may_be_there_and_what_is_unknown_is_passed_over(
    replica: Replica, prover: Prover
) -> None:
    kind = "urn:ietf:params:oauth:token-type:access_token"
    fields = {"resource": f"{URL}/mcp", "requested_token_type": kind, "scope": "", "client_id": "x"}
    assert (await replica.exchange(replica.controller(), prover, **fields)).status_code == 200


@pytest.mark.parametrize(
    ("form", "error", "status"),
    [
        ({"json": {"grant_type": "x"}}, "invalid_request", 400),
        ({"content": b"a=1&a=2", "headers": {}}, "invalid_request", 400),
        ({"content": b"audience=a&audience=b"}, "invalid_target", 400),
        ({"content": b"a=%ff"}, "invalid_request", 400),
        ({"content": b"\xff=1"}, "invalid_request", 400),
        ({"content": b"&".join(b"a%d=1" % number for number in range(50))}, "invalid_request", 400),
        ({"content": b"a=" + b"x" * 40_000}, "invalid_request", 413),
    ],
)
async def test_a_form_that_is_none_is_refused(replica: Replica, form: dict[str, Any], error: str, status: int) -> None:
    kind = {} if "json" in form else {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await replica.http.post(EXCHANGE_PATH, **{**form, "headers": kind})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
