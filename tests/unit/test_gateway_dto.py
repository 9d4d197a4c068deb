"""How bodies are read, where HTTP would only be in the way."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from services.gateway import bodies, dto, dto_accounts, limits, times

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _order(extra: str = "", amount: str = "10", token_in: str = "SOL") -> dto.OrderRequest:
    return dto.read_order(f'{{"tokenIn":"{token_in}","tokenOut":"USDC","amount":{amount}{extra}}}'.encode(), NOW)


def test_the_fingerprint_is_of_what_is_asked_not_of_how_it_is_written() -> None:
    mint = "So11111111111111111111111111111111111111112"
    same = [_order(), _order(amount='"10.000"'), _order(amount="1e1"), _order(token_in="sol"), _order(token_in=mint)]
    same.append(_order(extra=', "slippageBps": null'))
    assert len({order.fingerprint() for order in same}) == 1
    times = [_order(extra=f',"expiresAt":"2026-01-02T{time}"') for time in ("04:00:00Z", "05:00:00.000+01:00")]
    assert len({order.fingerprint() for order in times}) == 1
    noted = [_order(extra=f',"metadata":{{{pairs}}}') for pairs in ('"a":"1","b":"2"', '"b":"2","a":"1"')]
    assert len({order.fingerprint() for order in noted}) == 1


def test_the_fingerprint_tells_every_difference() -> None:
    different = [
        _order(),
        _order(amount="10.000000001"),
        _order(token_in="JUP"),
        _order(extra=',"slippageBps":50'),
        _order(extra=',"slippageBps":51'),
        _order(extra=',"expiresAt":"2026-01-02T04:00:00Z"'),
    ]
    assert len({order.fingerprint() for order in different}) == len(different)


@pytest.mark.parametrize("expires_at", ["2026-01-02T03:04:05Z", "2026-01-03T03:04:06Z"])
def test_who_names_a_time_out_of_range_is_told_what_time_it_is_here(expires_at: str) -> None:
    errors: list[bodies.FieldError] = []
    times.read_time(expires_at, NOW, timedelta(hours=24), errors)
    assert errors[0].detail.endswith("by at most 24 hours: here it is 2026-01-02T03:04:05Z.")


@pytest.mark.parametrize(
    ("body", "said"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xef\xbb\xbf{}", "begins with a byte order mark")]
)
def test_a_body_without_json_is_told_what_it_holds_instead(body: bytes, said: str) -> None:
    with pytest.raises(bodies.Malformed, match=said):
        dto.read_order(body, NOW)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}", "tokenIn is missing."),
        ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"price":2}', "There is no member price here."),
        ('{"tokenIn":5,"tokenOut":"USDC","amount":1}', "tokenIn: Input should be a valid string"),
        ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"metadata":{"a/b":1}}', "metadata/a/b: Input should be"),
        ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"metadata":[]}', "metadata must be a JSON object."),
    ],
)
def test_a_refused_body_is_told_which_part_of_it_is_wrong(body: str, said: str) -> None:
    with pytest.raises(bodies.Invalid, match=f"^{said}") as refused:
        dto.read_order(body.encode(), NOW)
    assert str(refused.value) == refused.value.errors[0].detail


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**60), 10**60)
            | st.decimals(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_bodies_are_read_as_they_were_written_to_the_last_digit(body: dict[str, object]) -> None:
    numbers: dict[str, Decimal] = {}

    def marked(value: object) -> str:
        mark = str(uuid4())  # no text of the body is one
        numbers[mark] = value  # type: ignore[assignment]  # only decimals come here
        return mark

    text = json.dumps(body, default=marked)
    for mark, number in numbers.items():
        text = text.replace(json.dumps(mark), str(number).removeprefix("+"))
    if any(len(str(number)) > limits.NUMBER_CHARS_MAX for number in numbers.values()):
        with pytest.raises(bodies.Malformed, match="too long"):
            bodies.parse(text.encode())
    else:
        assert bodies.parse(text.encode()) == body


def test_numbers_never_pass_through_a_float() -> None:
    assert _order(amount="9007199.254740993").amount_in == 9_007_199_254_740_993
    assert _order(amount="1234567890.123456789").amount_in == 1_234_567_890_123_456_789


@pytest.mark.parametrize(("written", "read"), [("1e-3", "0.001"), ('"1e-3"', "0.001"), ("2.50", "2.5"), ("1e1", "10")])
def test_prices_are_read_as_amounts_are(written: str, read: str) -> None:
    terms = _order(extra=f',"limitPrice":{written}').terms
    assert terms is not None
    assert terms.limit_price == read


def test_a_price_keeps_all_its_digits() -> None:
    price = "12345678901.123456789012345678"
    terms = _order(extra=f',"limitPrice":{price}', amount="0.000000001").terms
    assert terms is not None
    assert (terms.limit_price, terms.min_out) == (price, 12_345_679)


@pytest.mark.parametrize("price", ["1e-999999999999", "1e999999999999", "0", "-1", "true", '"x"', "1e-19", "1e20"])
def test_a_price_no_pool_has_is_refused_before_it_is_written_out(price: str) -> None:
    with pytest.raises(bodies.Invalid) as refused:
        _order(extra=f',"limitPrice":{price}')
    assert refused.value.errors[0].code == "price_invalid"


@pytest.mark.parametrize("number", ["1e1000000000000000000", "-0e99999999999999999999", "1.5e-1999999999999999998"])
@pytest.mark.parametrize("member", ["", ',"limitPrice":'])
def test_a_number_with_an_exponent_that_nothing_can_hold_is_the_clients_fault(number: str, member: str) -> None:
    asked = {"amount": "1", "extra": f"{member}{number}"} if member else {"amount": number}
    with pytest.raises(bodies.Malformed, match="exponent"):
        _order(**asked)


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "x\\udfff"])
def test_metadata_is_text_that_can_be_kept(text: str) -> None:
    for metadata in (f'{{"a":"{text}"}}', f'{{"{text}":"a"}}'):
        with pytest.raises(bodies.Invalid) as refused:
            _order(extra=f',"metadata":{metadata}')
        assert refused.value.errors[0].code == "metadata_invalid"
    assert _order(extra=',"metadata":{"é":"😀\\t"}').terms is not None


@pytest.mark.parametrize("text", ["2026-01-02T03:04:06Z", "2026-01-02t03:04:06.5z", "2026-01-03 04:04:05+01:00"])
def test_times_are_rfc_3339(text: str) -> None:
    assert _order(extra=f',"expiresAt":"{text}"').expires_at is not None


@pytest.mark.parametrize("text", ["20260102T040000Z", "2026-W01-5T04:00:00Z", "2026-01-02T04:00Z", "2026-01-02", ""])
def test_other_ways_to_write_a_time_are_not(text: str) -> None:
    with pytest.raises(bodies.Invalid) as refused:
        _order(extra=f',"expiresAt":"{text}"')
    assert refused.value.errors[0].code == "time_invalid"


def test_the_present_is_not_the_future() -> None:
    late = _order(extra=',"expiresAt":"2026-01-02T03:04:05Z"').late
    assert late
    assert "future" in late.detail
    with pytest.raises(bodies.Invalid) as refused:
        _order(extra=',"expiresAt":"2026-01-02T03:04:05Z"', amount="0")
    assert [error.pointer for error in refused.value.errors] == ["#/amount", "#/expiresAt"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" Ann@Example.COM ", "ann@example.com"),
        ("a.b+tag@sub.example.co", "a.b+tag@sub.example.co"),
        ("o'neil@xn--bcher-kva.example", "o'neil@xn--bcher-kva.example"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
    ],
)
def test_emails_have_one_form(text: str, normal: str) -> None:
    assert dto_accounts.normal_email(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "a@", "@b.c", "a@b", "a b@c.de", "a@b..cd", "a@.cd", "a@b.cd.", "a.@b.cd", "a@b_c.de", "a@@b.cd"),
        *("a@b.cd\n.", "x" * 65 + "@b.cd", "İ@b.cd", "a@" + "b" * 64 + ".cd"),
    ],
)
def test_what_is_no_email_has_none(text: str) -> None:
    assert dto_accounts.normal_email(text) is None


def test_a_password_is_not_shown_by_a_body_that_is_printed() -> None:
    signup = dto_accounts.read_signup(b'{"email":"a@b.cd","password":"do not show me"}')
    login = dto_accounts.read_login(b'{"email":"a@b.cd","password":"do not show me"}')
    assert "show" not in repr(signup) + repr(login)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [("{%s}", "#"), ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"metadata":{%s}}', "#/metadata")],
)
def test_what_is_wrong_is_not_looked_for_in_thousands_of_members(body: str, pointer: str) -> None:
    """Each fault found costs as much as an order, and a body of them would be counted as one."""
    members = ",".join(f'"{number}":1' for number in range(5_000))
    with pytest.raises(bodies.Invalid) as refused:
        dto.read_order((body % members).encode(), NOW)
    assert [(error.pointer, error.code) for error in refused.value.errors] == [(pointer, "too_long")]
