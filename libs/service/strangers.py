"""Sockets that have not said whose they are. They are few: nobody without an account can keep all others out."""

from typing import Protocol


class Stranger(Protocol):
    """A connection without a user."""

    def cut(self) -> None:
        """End it at once."""


class Strangers:
    """The oldest goes when there are too many: whoever has a token has said so within a moment."""

    def __init__(self) -> None:
        self._waiting: dict[Stranger, None] = {}  # in the order they came

    def came(self, stranger: Stranger, most: int) -> None:
        """It stands, and has to say who it is; `most`: as many may."""
        self._waiting[stranger] = None
        if len(self._waiting) > most:
            oldest = next(iter(self._waiting))
            self.gone(oldest)
            oldest.cut()

    def gone(self, stranger: Stranger) -> None:
        """It has left, or is none any more."""
        self._waiting.pop(stranger, None)
