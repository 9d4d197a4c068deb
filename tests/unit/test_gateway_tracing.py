"""Request ids and trace contexts: taken over where they are sane, made anew where not."""

import re

import pytest

from services.gateway.tracing import request_id_of, traceparent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WELL_FORMED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@pytest.mark.parametrize(
    "inbound", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-what-ever"]
)
def test_a_trace_goes_on_with_a_span_of_our_own(inbound: str) -> None:
    ours = traceparent_of(inbound)
    assert WELL_FORMED.fullmatch(ours)
    assert ours.split("-")[1] == TRACE
    assert ours.split("-")[2] != SPAN
    assert ours.split("-")[3] == inbound.split("-")[3]


@pytest.mark.parametrize(
    "inbound",
    [
        None,
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_anything_else_starts_a_new_trace(inbound: str | None) -> None:
    ours = traceparent_of(inbound)
    assert WELL_FORMED.fullmatch(ours)
    assert TRACE not in ours
    assert ours != traceparent_of(inbound)


def test_a_sane_request_id_is_kept_and_any_other_replaced() -> None:
    assert request_id_of("a-b_c.1:/+=@") == "a-b_c.1:/+=@"
    for inbound in (None, "", "a b", "x" * 129, "a\n", '"', "ü"):
        made = request_id_of(inbound)
        assert re.fullmatch(r"[0-9a-f-]{36}", made)
        assert made != inbound
