"""One order over several venues in one transaction: the less of it a venue gets, the less its price moves. Pure.

A venue is asked for tenths of the amount; each tenth goes where it adds most. More of the same adds less at every
venue, so nothing else gives more.
"""

from collections.abc import Sequence

import orjson

from libs.events.model import U64_MAX, Reason
from libs.events.order import Order
from libs.quoting.answer import NETWORK_FEE_LAMPORTS, QUOTE_BYTES_MAX, Answer, Part, Quote
from libs.quoting.choice import WHOLE_BPS, is_limit, wanted_out
from libs.quoting.passed_over import failed_by_its_route, least_instead

TENTHS = 10
LEGS_MAX = 3  # a transaction is one packet
GAIN_PPM_MIN = 100  # a larger transaction for less than that is not worth its risk
# That an order has met and missed. What can never be joined would be met by the same quotes again, as long as it waits.
PRICES_MISSED_MAX = 10
_PPM = 1_000_000


def rivals(order: Order, answers: Sequence[Answer], from_bps: int) -> list[str]:
    """The venues to ask for shares, the best for the whole first; none where one alone is as good.

    `from_bps`: how far the best quote moves its price, at least; 10000 or more: never.
    """
    quotes = [(answer.result, answer.venue) for answer in answers if isinstance(answer.result, Quote)]
    best = max(quotes, key=lambda quote: quote[0].amount_out)[0] if quotes else None
    if best and (best.price_impact_ppm or 0) * WHOLE_BPS < from_bps * _PPM:
        return []
    if from_bps >= WHOLE_BPS or not _may_fail_so(order, best):
        return []
    able = [venue for _, venue in sorted(quotes, key=lambda quote: (-quote[0].amount_out, quote[1]))]
    able += [answer.venue for answer in answers if _has_some(answer)]
    return able[:LEGS_MAX] if len(able) > 1 and order.amount_in >= TENTHS else []


def _may_fail_so(order: Order, alone: Quote | None) -> bool:
    """Whether it can bear a transaction that the chain may not take, or a venue not build. `alone`: the best."""
    if failed_by_its_route(order) and (is_limit(order) or (alone and alone.amount_out >= least_instead(order))):
        return False  # a limit order takes no less, or waits: split at once again it might use up its attempts
    has_one_attempt = order.terms is not None and order.terms.time_in_force in {"IOC", "FOK"}
    alone_will_do = alone is not None and alone.amount_out >= wanted_out(order)
    return order.attempts_before < PRICES_MISSED_MAX and not (has_one_attempt and alone_will_do)


def shares(amount_in: int, *, first: bool) -> list[int]:
    """One tenth to nine of them; what cannot be divided is with the first venue, which gets one at least."""
    tenth, rest = divmod(amount_in, TENTHS)
    return [tenth * count + (rest if first else 0) for count in range(1, TENTHS)]


def split(order: Order, answers: Sequence[Answer], ladders: Sequence[Sequence[Answer]]) -> Answer | None:
    """What the rivals give together, asked for `shares` each; None when one alone gives as much."""
    quoted = [_quoted(ladder) for ladder in ladders]
    taken = _taken([[quote.amount_out for quote in ladder] for ladder in quoted])
    parts = [
        Part(
            ladder[0].venue,
            count * WHOLE_BPS // TENTHS,
            shares(order.amount_in, first=not place)[count - 1],
            quoted[place][count - 1],
        )
        for place, (ladder, count) in enumerate(zip(ladders, taken, strict=True))
        if count
    ]
    whole = _together(order, sorted(parts, key=lambda part: (-part.share_bps, part.venue)))
    alone = max((answer.result.amount_out for answer in answers if isinstance(answer.result, Quote)), default=0)
    if len(parts) < 2 or whole is None or (whole.amount_out - alone) * _PPM < alone * GAIN_PPM_MIN:
        return None
    took_ms = max(answer.took_ms for ladder in ladders for answer in ladder)
    return Answer("+".join(part.venue for part in whole.parts), took_ms, whole)


def _has_some(answer: Answer) -> bool:
    return not isinstance(answer.result, Quote) and answer.result.reason is Reason.INSUFFICIENT_LIQUIDITY


def _quoted(ladder: Sequence[Answer]) -> list[Quote]:
    """As far as the venue goes."""
    quotes: list[Quote] = []
    for answer in ladder:
        if not isinstance(answer.result, Quote):
            break
        quotes.append(answer.result)
    return quotes


def _taken(ladders: Sequence[Sequence[int]]) -> list[int]:
    """How many tenths each gets; all zero where they cannot take the whole."""
    taken = [0] * len(ladders)
    for tenth in range(TENTHS):
        adds = [
            (ladder[count] - (ladder[count - 1] if count else 0), -place)
            for place, (ladder, count) in enumerate(zip(ladders, taken, strict=True))
            if count < len(ladder) and (tenth or not place)
        ]
        if not adds:
            return [0] * len(ladders)
        taken[-max(adds)[1]] += 1
    return taken


def _together(order: Order, parts: Sequence[Part]) -> Quote | None:
    """None where the same liquidity would be counted twice, or the quotes be too much to keep."""
    quotes = [part.quote for part in parts]
    pools = [pool for quote in quotes for pool in quote.pool.split("+")]
    amount_out = sum(quote.amount_out for quote in quotes)
    size = sum(len(orjson.dumps(quote.raw)) for quote in quotes)
    if len(set(pools)) < len(pools) or amount_out > U64_MAX or size > QUOTE_BYTES_MAX:
        return None
    moved = sum((part.quote.price_impact_ppm or 0) * part.amount_in for part in parts) // order.amount_in
    # It is signed once.
    more = sum(max(0, quote.network_fee_lamports - NETWORK_FEE_LAMPORTS) for quote in quotes)
    return Quote(amount_out, "", 0, "", min(U64_MAX, NETWORK_FEE_LAMPORTS + more), moved, {}, tuple(parts))
