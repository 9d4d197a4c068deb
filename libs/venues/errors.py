"""Why a pool does not trade.

VenueError
  AmountTooSmall          after fee and rounding nothing would come out
  InsufficientLiquidity   the pool cannot fill it, or its reserves would leave 64 bits
  MintNotInPool           asked with a mint the pool does not hold
"""


class VenueError(ValueError):
    """A pool refuses a trade; pools are left as they were."""


class AmountTooSmall(VenueError):
    """After fee and rounding nothing would come out."""


class InsufficientLiquidity(VenueError):
    """The pool cannot fill the whole amount."""


class MintNotInPool(VenueError):
    """The pool does not hold this mint."""
