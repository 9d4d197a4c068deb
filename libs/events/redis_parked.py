"""Parked and discarded items as Redis keeps them: the item's own fields, then what was told of the failure."""

from collections.abc import Mapping

from libs.events.ids import Position
from libs.events.parked import Discarded, Parked


def read_parked(partition: int, parked_id: str, fields: Mapping[str, str]) -> Parked:
    """An entry of `parked`. The item's own fields may be anything: it may have been parked for them."""
    return Parked(
        partition=partition,
        id=parked_id,
        service=fields["service"],
        order_id=fields.get("subject", ""),
        reason=fields["reason"],
        deliveries=int(fields["deliveries"]),
        fingerprint=fields["fingerprint"],
        event_id=fields.get("id", ""),
        event_type=fields.get("type", ""),
        traceparent=fields.get("traceparent", ""),
        made_ms=Position.parse(fields["item"]).ms,
        parked_ms=Position.parse(parked_id).ms,
    )


def read_discarded(partition: int, entry_id: str, fields: Mapping[str, str]) -> Discarded:
    """An entry of `discarded`."""
    return Discarded(
        parked=read_parked(partition, fields["parked"], fields),
        by=fields["discarded_by"],
        reason=fields["discarded_because"],
        at_ms=Position.parse(entry_id).ms,
    )
