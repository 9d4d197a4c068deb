"""Why an item is set aside, and how to tell that another was set aside for the same reason."""

from hashlib import blake2s


class Poison(Exception):
    """The item cannot be handled by this release, however often it is tried (`deliveries`, if more than it says)."""

    def __init__(self, reason: str, deliveries: int | None = None) -> None:
        super().__init__(reason)
        self.deliveries = deliveries

    @property
    def fingerprint(self) -> str:
        """The same for every error of one kind that was raised at one place."""
        cause = self.__cause__ or self
        trace = cause.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
        return blake2s(f"{type(cause).__name__} {place}".encode(), digest_size=8).hexdigest()
