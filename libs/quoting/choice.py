"""Which answer wins, what it is worth after costs, and why each of the others lost. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.events.model import (
    AttemptFailed,
    Candidate,
    Leg,
    OrderFailed,
    OrderOpened,
    Reason,
    Route,
    RouteSelected,
)
from libs.events.order import Order
from libs.events.reactions import PERMANENT
from libs.events.retry import RetryPolicy, after_failure
from libs.events.trusted import changed, trusted
from libs.quoting.answer import Answer, NoQuote, Offer, Part, Quote
from libs.quoting.passed_over import least_instead, venue_before
from libs.quoting.why import why_lost, why_shared, why_won
from libs.venues.tokens import TOKENS, find_token, to_decimal_text

WHOLE_BPS = 10_000
SOL_MINT = TOKENS["SOL"].mint

# When nobody quoted, the most hopeful reason counts: an order fails at once only if every venue's answer is final.
_MOST_HOPEFUL_FIRST = (
    Reason.VENUES_UNAVAILABLE,
    Reason.VENUE_REFUSED,
    Reason.INSUFFICIENT_LIQUIDITY,
    Reason.AMOUNT_TOO_SMALL,
    Reason.NO_ROUTE,
    Reason.UNKNOWN_TOKEN,
)


def _rank(offer: Offer) -> tuple[int, str]:
    return -offer.net, offer.venue


def decide(
    order: Order,
    answers: Sequence[Answer],
    *,
    now: datetime,
    fraction: float,
    policy: RetryPolicy,
    attempt: int | None = None,
) -> RouteSelected | OrderOpened | AttemptFailed | OrderFailed:
    """The best net output that is enough wins, ties by venue name; nobody quoted: the attempt or the order fails.

    A venue over which the attempt before failed is passed over, if another will do.
    `attempt`: the one this is about, when the order has not begun it yet.
    """
    offers = [Offer(venue, _net(order, result), result) for venue, _, result in answers if isinstance(result, Quote)]
    attempt = order.attempt if attempt is None else attempt
    if not offers:
        return _not_quoted(_in(order, attempt), answers, now=now, fraction=fraction, policy=policy)
    # What is left after the network fee ranks; what comes out must be enough, and a dearer venue may give more.
    enough = [offer for offer in offers if offer.quote.amount_out >= wanted_out(order)]
    before, least = venue_before(order), least_instead(order)
    others = [offer for offer in enough if before not in {None, offer.venue} and offer.quote.amount_out >= least]
    best = min(others or enough or offers, key=_rank)
    if not enough:
        return _not_met(
            _in(order, attempt), best.venue, best.quote.amount_out, now=now, fraction=fraction, policy=policy
        )
    why = why_shared(best, offers) if best.quote.parts else why_won(len(enough), len(offers))
    better = [offer.venue for offer in enough if others and _rank(offer) < _rank(best)]
    passed_over = before if before in better else None
    if passed_over:
        why += f" but that of {passed_over}, over which the attempt before failed"
    return trusted(
        RouteSelected,
        {
            "attempt": attempt,
            "route": _route(order, best),
            "candidates": tuple(_candidate(order, answer, best, why, passed_over) for answer in answers),
        },
    )


def wanted_out(order: Order) -> int:
    """The least the client accepts whatever a quote says; 0: any."""
    return (order.terms.min_out if order.terms else None) or 0


def is_limit(order: Order) -> bool:
    """Whether it waits for its price."""
    return order.terms is not None and order.terms.limit_price is not None


def _waits(order: Order) -> bool:
    """Whether it is a limit order, and not for this moment only."""
    return is_limit(order) and order.terms is not None and order.terms.time_in_force not in {"IOC", "FOK"}


def _opened(order: Order, best_out: int | None, now: datetime) -> OrderOpened:
    left_ms = max(0, -((now - order.expires_at) // timedelta(milliseconds=1)))
    return OrderOpened(
        attempt=order.attempt,
        wanted_out=wanted_out(order),
        best_out=best_out,
        delay_ms=left_ms,
        until=order.expires_at,
    )


def _not_quoted(
    order: Order, answers: Sequence[Answer], *, now: datetime, fraction: float, policy: RetryPolicy
) -> OrderOpened | AttemptFailed | OrderFailed:
    """A limit order outlives venues that are away for longer than its attempts: it waits for its price meanwhile."""
    reason, detail = _nobody(answers)
    event = after_failure(order, "routing", reason, detail, now=now, fraction=fraction, policy=policy)
    gives_up = isinstance(event, OrderFailed) and reason not in PERMANENT
    return _opened(order, None, now) if gives_up and _waits(order) else event


def _not_met(
    order: Order, venue: str, best_out: int, *, now: datetime, fraction: float, policy: RetryPolicy
) -> OrderOpened | AttemptFailed | OrderFailed:
    if _waits(order):
        return _opened(order, best_out, now)
    quoted, wanted = _shown(order, best_out), _shown(order, wanted_out(order))
    why = f"{venue}, the best, quotes {quoted}; at least {wanted} are wanted"
    return after_failure(order, "routing", Reason.PRICE_NOT_MET, why, now=now, fraction=fraction, policy=policy)


def min_out(quoted_out: int, slippage_bps: int) -> int:
    """The least the client accepts, rounded down: 0 <= result <= quoted_out."""
    return quoted_out * (WHOLE_BPS - slippage_bps) // WHOLE_BPS


def fee_in_token_out(lamports: int, mint_in: str, mint_out: str, amount_in: int, amount_out: int) -> int:
    """The network fee in the token bought, rounded up, at the quote's own price.

    A price for SOL is known when SOL is sold or bought. Between two other tokens there is none in the quote: 0. The
    network fee is the same for every venue then as now, so the ranking is the same.
    """
    if mint_out == SOL_MINT:
        return lamports
    if mint_in == SOL_MINT:
        return -(-lamports * amount_out // amount_in)
    return 0


def _net(order: Order, quote: Quote) -> int:
    fee = fee_in_token_out(quote.network_fee_lamports, order.mint_in, order.mint_out, order.amount_in, quote.amount_out)
    return quote.amount_out - fee


def _route(order: Order, best: Offer) -> Route:
    venue, net, quote = best
    parts = quote.parts or (Part(venue, WHOLE_BPS, order.amount_in, quote),)
    return trusted(
        Route,
        {
            "legs": tuple(map(_leg, parts)),
            "quoted_out": quote.amount_out,
            "net_out": max(0, net),
            "min_out": max(min_out(quote.amount_out, order.slippage_bps), wanted_out(order)),
            "network_fee_lamports": quote.network_fee_lamports,
        },
    )


def _leg(part: Part) -> Leg:
    venue, share_bps, amount_in, quote = part
    return trusted(
        Leg,
        {
            "venue": venue,
            "pool": quote.pool,
            "share_bps": share_bps,
            "amount_in": amount_in,
            "amount_out": quote.amount_out,
            "fee": quote.fee,
            "fee_mint": quote.fee_mint,
            "quote": quote.raw,
        },
    )


def _candidate(order: Order, answer: Answer, best: Offer, why_best: str, passed_over: str | None) -> Candidate:
    venue, took_ms, quote = answer
    if isinstance(quote, NoQuote):
        return trusted(Candidate, {"venue": venue, "outcome": "failed", "why": quote.why, "took_ms": took_ms})
    selected, net = quote is best.quote, _net(order, quote)
    if quote.amount_out < wanted_out(order):
        why = f"less than the {_shown(order, wanted_out(order))} that are wanted"
    elif venue == passed_over:
        why = "the attempt before was over it, and failed"
    else:
        why = why_best if selected else why_lost(net, best.venue, best.net)
    return trusted(
        Candidate,
        {
            "venue": venue,
            "outcome": "selected" if selected else "lost",
            "why": why,
            "amount_out": quote.amount_out,
            "net_out": max(0, net),
            "price_impact_ppm": quote.price_impact_ppm,
            "took_ms": took_ms,
        },
    )


def _shown(order: Order, units: int) -> str:
    """What comes out, as clients write amounts; a token that only another release knows has decimals nobody can say."""
    token = find_token(order.mint_out)
    return f"{to_decimal_text(units, token)} {token.symbol}" if token else f"{units} base units"


def _in(order: Order, attempt: int) -> Order:
    return order if order.attempt == attempt else changed(order, {"attempt": attempt})


def _nobody(answers: Sequence[Answer]) -> tuple[Reason, str]:
    reasons = {answer.result.reason for answer in answers if isinstance(answer.result, NoQuote)}
    reason = next((reason for reason in _MOST_HOPEFUL_FIRST if reason in reasons), Reason.VENUES_UNAVAILABLE)
    told = (f"{answer.venue}: {answer.result.why}" for answer in answers if isinstance(answer.result, NoQuote))
    return reason, "; ".join(told)
