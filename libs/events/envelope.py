"""One event with everything a reader needs to place it, and its flat form in the log."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import AwareDatetime, Field

from libs.events.model import EVENT_TYPES, Event, Frozen, UnknownEvent
from libs.events.trusted import trusted
from libs.events.upcast import upcast

FIELD_NAMES = (
    "id",
    "type",
    "v",
    "source",
    "subject",
    "user",
    "version",
    "time",
    "cause",
    "traceparent",
    "data",
)


_MAY_BE_MISSING = {"cause": "", "traceparent": ""}


class Envelope(Frozen):
    """One event of one order with what every reader needs to place it: CloudEvents 1.0 attribute names."""

    id: str = Field(description="<order id>/<version>; unique and stable: drop repeats by it")
    type: str = Field(description="name of the event")
    v: int = Field(ge=1, description="schema version of data")
    source: str = Field(description="the service that wrote it")
    subject: str = Field(description="order id")
    user: str = Field(description="owner of the order")
    version: int = Field(ge=1, description="1, 2, 3 … within the order")
    time: AwareDatetime
    cause: str = Field("", description="id of the event it answers; empty for the first")
    traceparent: str = Field("", description="W3C trace context; may be empty")
    data: Event

    def values(self) -> tuple[str, ...]:
        """The values of a stream entry, in the order of `FIELD_NAMES`."""
        # What was read from an older version is written as it is now.
        v, raw = (
            (self.v, self.data.raw)
            if isinstance(self.data, UnknownEvent)
            else (self.data.SCHEMA_VERSION, self.data.model_dump_json())
        )
        return (
            self.id,
            self.type,
            str(v),
            self.source,
            self.subject,
            self.user,
            str(self.version),
            time_text(self.time),
            self.cause,
            self.traceparent,
            raw,
        )

    def fields(self) -> dict[str, str]:
        """The flat fields of a stream entry."""
        return dict(zip(FIELD_NAMES, self.values(), strict=True))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Envelope":
        """Read a stream entry's flat fields. Only `data` is checked as by a client: the rest was ours to write.

        Raises:
            ValueError (also pydantic.ValidationError): a field is missing or not of its shape.
        """
        try:
            values = {name: fields[name] for name in FIELD_NAMES}
        except KeyError as missing:
            if missing.args[0] in _MAY_BE_MISSING:
                return cls.from_fields({**_MAY_BE_MISSING, **fields})
            raise ValueError(f"field {missing} is missing") from None
        v, version, time = int(values["v"]), int(values["version"]), datetime.fromisoformat(values["time"])
        if v < 1 or version < 1 or time.tzinfo is None:
            raise ValueError(f"v, version or time is not of its shape: {v}, {version}, {values['time']!r}")
        values |= {"v": v, "version": version, "time": time, "data": event_of(values["type"], v, values["data"])}
        return trusted(cls, values)


def event_of(name: str, v: int, raw: str) -> Event:
    """The body `raw` of schema version `v`; as `UnknownEvent` where this release does not know it.

    Raises:
        ValueError (also pydantic.ValidationError): it is not of its shape.
    """
    model = EVENT_TYPES.get(name)
    if model is None or v > model.SCHEMA_VERSION:
        return UnknownEvent(raw=raw)
    if v < model.SCHEMA_VERSION:
        raw = upcast(name, v, model.SCHEMA_VERSION, raw)
    return model.model_validate_json(raw)


@lru_cache(maxsize=1_024)  # the events of one batch share their time
def time_text(time: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
