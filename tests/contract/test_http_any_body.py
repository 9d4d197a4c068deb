"""Any body at all is accepted, and then exactly as it was written, or told to be the client's fault."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from services.gateway import bodies, dto
from tests.contract.http_gateway import Client, gateway


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with gateway() as client:
        yield client


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(alphabet="0123456789.eE+-_ ", max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TOKENS = st.sampled_from(["SOL", "usdc", "USDT", "BONK", "JUPYT", "", "SOL\x00"])
NEARLY_ORDERS = st.fixed_dictionaries(
    {"tokenIn": TOKENS | JSON, "tokenOut": TOKENS | JSON, "amount": JSON},
    optional={"slippageBps": JSON, "expiresAt": JSON, "extra": JSON},
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=st.binary(max_size=200) | (NEARLY_ORDERS | JSON).map(lambda value: json.dumps(value).encode()))
async def test_any_body_is_accepted_or_the_clients_fault(client: Client, body: bytes) -> None:
    answer = await client.post(body)
    assert answer.status in (202, 400, 422), answer
    if answer.status != 202:
        assert answer.code in ("malformed_body", "invalid_body")


@given(body=NEARLY_ORDERS)
def test_what_is_accepted_is_exact(body: dict[str, Any]) -> None:
    try:
        order = dto.read_order(json.dumps(body).encode(), datetime.now(UTC))
    except (bodies.Invalid, bodies.Malformed):
        return
    assert 1 <= order.amount_in < 2**64
    assert order.token_in != order.token_out
    assert orjson.dumps(order.fingerprint())
