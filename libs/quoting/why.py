"""Why a quote won or lost, in a sentence for clients. Pure."""

from collections.abc import Sequence

from libs.quoting.answer import Offer


def why_won(enough: int, offers: int) -> str:
    """Of the best of so many quotes, of which `enough` give what is wanted."""
    if enough == offers:
        return "the only quote" if offers == 1 else f"best net output of {offers} quotes"
    if enough == 1:
        return f"the only one of {offers} quotes that gives what is wanted"
    return f"best net output of the {enough} of {offers} quotes that give what is wanted"


def why_shared(best: Offer, offers: Sequence[Offer]) -> str:
    """Of one that is split over several venues."""
    shares = " and ".join(f"{part.share_bps // 100} % over {part.venue}" for part in best.quote.parts)
    alone = max((offer for offer in offers if not offer.quote.parts), key=lambda offer: offer.net, default=None)
    if alone is None:
        return f"{shares}: no venue alone can fill it"
    if alone.net > best.net:  # it would have won
        return f"{shares}: no venue alone gives what is wanted"
    return f"{shares}: {_hundredths(best.net - alone.net, max(1, alone.net))} % more than {alone.venue} alone"


def why_lost(net: int, winner: str, best_net: int) -> str:
    """Of a quote that gives what is wanted; net outputs are in base units."""
    if net > best_net:  # after fees: what comes out decides whether it may stand in for one passed over
        return "less comes out than was to at the least in the attempt before"
    if net == best_net:
        return f"equal to {winner}, which comes first by name"
    if best_net <= 0:
        return f"{best_net - net} base units less than {winner}"
    if (less := _hundredths(best_net - net, best_net)) == "0.00":
        return f"under 0.01 % less than {winner}"
    return f"{less} % less than {winner}"


def _hundredths(part: int, whole: int) -> str:
    """`part` of `whole` in per cent, rounded down to hundredths."""
    hundredths = part * 10_000 // whole
    return f"{hundredths // 100}.{hundredths % 100:02d}"
