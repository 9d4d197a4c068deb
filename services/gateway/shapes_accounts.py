"""What answers about accounts look like, for the OpenAPI document."""

from datetime import datetime

from pydantic import Field

from services.gateway.shapes import Shape


class SessionShape(Shape):
    """`token` goes into the Authorization header; `refreshToken` is good once."""

    user_id: str
    token: str
    expires_in: int = Field(description="seconds")
    refresh_token: str


class TicketShape(Shape):
    """Good for one WebSocket or event stream, within seconds: `?ticket=`."""

    ticket: str
    expires_at: datetime


class KeyShape(Shape):
    """An API key without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    expires_at: datetime | None
    created_at: datetime


class NewKeyShape(KeyShape):
    """The only time the key itself is shown."""

    key: str


class KeysShape(Shape):
    """Newest first."""

    keys: list[KeyShape]
