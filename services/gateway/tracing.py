"""The two names a request carries through every log line and event: its id, and its place in a trace."""

import os
import re

from uuid_utils import uuid7

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.{0,64})?")


def request_id_of(inbound: str | None) -> str:
    """The client's own id where it is harmless to log and to give back, else a new one."""
    return inbound if inbound and _REQUEST_ID.fullmatch(inbound) else str(uuid7())


def traceparent_of(inbound: str | None) -> str:
    """The gateway's span in the client's trace (W3C Trace Context), or in a new trace when there is none."""
    known = _TRACEPARENT.fullmatch(inbound) if inbound else None
    # A version newer than 00 may have more parts; the ones known here keep their meaning.
    if known and (known[3] is None or not inbound.startswith("00")):  # type: ignore[union-attr]
        return f"00-{known[1]}-{os.urandom(8).hex()}-{known[2]}"
    chance = os.urandom(24).hex()
    return f"00-{chance[:32]}-{chance[32:]}-01"
