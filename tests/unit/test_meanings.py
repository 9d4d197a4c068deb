"""Every code that is answered anywhere is in the tables clients are shown."""

import re
from datetime import UTC, datetime
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest

from libs.events.model import Reason
from services.gateway import asyncapi, entry, frames, meanings
from services.gateway.dto import BatchItemBody, read_order
from services.gateway.openapi import openapi
from services.gateway.problems import KINDS
from services.notifier import problems
from services.notifier.limits import Close, Limits

SERVICES = Path(__file__).parents[2] / "services"


def sources(service: str) -> str:
    return "".join(path.read_text() for path in sorted((SERVICES / service).glob("*.py")))


def test_what_the_notifier_refuses_with_is_a_code_of_the_api() -> None:
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Kind)]
    assert len(kinds) >= 8
    for kind in kinds:
        assert KINDS[kind.code].status == kind.status, kind


def test_every_way_a_socket_is_closed_is_told() -> None:
    codes = {close.code for close in Close} | {entry.UNAUTHORIZED, entry.TOO_MANY, entry.TRY_LATER, frames.RESTARTING}
    assert codes <= set(meanings.CLOSES)


def test_every_code_a_socket_answers_is_told() -> None:
    answered = set(re.findall(r'(?:_error|error_message)\(\s*"(\w+)"', sources("notifier") + sources("gateway")))
    assert {"bad_message", "unknown_op"} <= answered
    assert answered == set(meanings.LIVE_ERRORS)


def test_every_code_of_a_part_of_a_body_is_told() -> None:
    answered = set(re.findall(r'(?:FieldError\([^,]+, |_wrong\()"(\w+)"', sources("gateway")))
    assert {"amount_invalid", "quote_expired", "unknown_token"} <= answered
    assert answered <= set(meanings.FIELD_CODES)


def test_every_member_and_every_reason_is_told() -> None:
    assert {field.alias for field in BatchItemBody.model_fields.values()} == set(meanings.MEMBERS)
    assert set(meanings.FAILURES) == set(Reason)
    assert not meanings.FAILURES[Reason.NO_ROUTE].again
    assert meanings.FAILURES[Reason.PRICE_NOT_MET].again


def test_how_many_orders_a_snapshot_has_is_told() -> None:
    assert f"the {Limits().snapshot_orders} newest" in asyncapi.messages()["snapshot"]


def test_an_attempt_fails_at_the_stage_that_is_told() -> None:
    quoting = "".join(path.read_text() for path in (SERVICES.parent / "libs" / "quoting").glob("*.py"))
    for stage, source in (("routing", quoting), ("execution", sources("executor"))):
        reasons = {Reason[name] for name in re.findall(r"\bReason\.([A-Z_]+)", source)}
        assert Reason.VENUE_REFUSED in reasons
        told = {reason: meanings.FAILURES[reason].stage for reason in reasons}
        assert {reason: at for reason, at in told.items() if at not in {stage, "any"}} == {}


def test_every_member_of_a_problem_is_described() -> None:
    added = set(re.findall(r'Problem\("[^#\n]*, (\w+)=', sources("gateway"))) - {"headers", "errors"}
    assert {"currentStatus", "existingOrderId", "lookUp", "needs", "reason"} <= added
    described = orjson.loads(openapi())["components"]["schemas"]["Problem"]["properties"]
    assert added | {"currentVersion", "retryAfter"} <= described.keys()


@pytest.mark.parametrize("price", ["0.5", "0.000000123456", "0.000000000000000001"])
def test_a_price_that_is_taken_is_one_by_the_description(price: str) -> None:
    described = orjson.loads(openapi())
    shape = {"$ref": "#/components/schemas/OrderBody", "components": described["components"]}
    asked = {"tokenIn": "BONK", "tokenOut": "SOL", "amount": "0.00001", "limitPrice": price}
    assert read_order(orjson.dumps(asked), datetime.now(UTC)).terms
    jsonschema.validate(asked, shape, cls=jsonschema.Draft202012Validator)
