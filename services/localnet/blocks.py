"""What the chain's parts hand to each other: blocks, outcomes, stored states, and why a transaction is refused."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from libs.venues.book import Pool
from services.localnet.execution import ChainError


class BlockhashNotFound(Exception):
    """The blockhash is unknown or expired."""


class SimulationFailed(Exception):
    """The transaction would fail now."""

    def __init__(self, err: ChainError, logs: list[str]) -> None:
        self.err, self.logs = err, logs


class TooManyPending(Exception):
    """The pending queue is full; try again later."""


class Tip(NamedTuple):
    """The newest visible block."""

    slot: int
    height: int
    blockhash: str


class Outcome(NamedTuple):
    """An executed transaction's status."""

    slot: int
    height: int
    err: ChainError | None


class Executed(NamedTuple):
    """A transaction in a block. `balances`: mint (or "lamports") to (before, after), where it changed."""

    signature: str
    payer: str
    reference: str
    err: ChainError | None
    fee: int
    balances: dict[str, tuple[int, int]]
    logs: list[str]


class Block(NamedTuple):
    """All that must be stored to come back here."""

    slot: int
    height: int
    transactions: list[Executed]
    pools: dict[str, Pool]
    wallets: dict[str, dict[str, int]]


class Snapshot(NamedTuple):
    """A stored state: the newest block's numbers, every pool and wallet, recent outcomes oldest first."""

    slot: int
    height: int
    pools: Mapping[str, Pool]
    wallets: Mapping[str, dict[str, int]]
    recent: Iterable[tuple[str, Outcome]]
