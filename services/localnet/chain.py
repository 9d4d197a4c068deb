"""The chain: slots, blockhashes that expire, pending and executed transactions. No I/O, no clock.

A block is made in two halves: `produce_block` executes what is pending, `publish` makes the outcome visible. The
caller stores the block between the two, so nobody sees a status that a crash could take back.

Slots count blocks. Heights count nominal slot times, and blockhashes expire by height, as on Solana; a block
that comes before its slot time is over (LOCALNET_SLOT_MS=0) has a slot of its own and the height of the last one.
"""

import hashlib
from collections import deque

from solders.hash import Hash

from libs.venues.book import Pool
from libs.venues.tokens import TOKENS
from services.localnet.blocks import (
    Block,
    BlockhashNotFound,
    Executed,
    Outcome,
    SimulationFailed,
    Snapshot,
    Tip,
    TooManyPending,
)
from services.localnet.execution import LAMPORTS, Effect, execute, reference_of
from services.localnet.pools import ARBITRAGE_PPM, LISTINGS, Listing, align, initial_pool
from services.localnet.prices import price_step, ratio
from services.localnet.trouble import Trouble
from services.localnet.wire import SignedTransaction

BLOCKHASH_HEIGHTS = 150
FINALIZED_SLOTS = 32
FEE_PER_SIGNATURE = 5_000
SLOT_NOMINAL_MS = 400
PENDING_MAX = 50_000
# Beyond a blockhash's life a signature cannot land again, so older ones need not be in memory.
RECENT_HEIGHTS = BLOCKHASH_HEIGHTS + 10

# What a wallet never seen before is given, in base units: enough for a million orders of 10 SOL in either direction.
FAUCET_UNITS = 10**18
FAUCET = {token.mint: FAUCET_UNITS * (9 if token.symbol == "BONK" else 1) for token in TOKENS.values()} | {
    LAMPORTS: FAUCET_UNITS
}


class Chain:
    def __init__(self, seed: int, genesis: bytes, trouble: Trouble, snapshot: Snapshot | None = None) -> None:
        self._seed, self._genesis, self._trouble = seed, genesis, trouble
        self.listings: dict[str, Listing] = {listing.address: listing for listing in LISTINGS}
        self.slot, self.height = (snapshot.slot, snapshot.height) if snapshot else (0, 0)
        self.pools: dict[str, Pool] = {
            address: initial_pool(listing, seed, price_step(self.height)) for address, listing in self.listings.items()
        }
        # A pool that nobody trades in is stored once as well: opened again at another height it would be another.
        self._stored = dict(snapshot.pools) if snapshot else {}
        self.wallets: dict[str, dict[str, int]] = {}
        self._pending: dict[str, SignedTransaction] = {}
        self._landing: dict[str, SignedTransaction] = {}
        self._recent: dict[str, Outcome] = {}
        self._by_age: deque[tuple[int, str]] = deque()
        self._expiry: dict[str, int] = {}
        if snapshot:
            self._restore(snapshot)
        for height in range(max(0, self.height - BLOCKHASH_HEIGHTS), self.height + 1):
            self._expiry[self._blockhash(height)] = height + BLOCKHASH_HEIGHTS
        self._set_prices()
        self.tip = Tip(self.slot, self.height, self._blockhash(self.height))

    @property
    def genesis_hash(self) -> str:
        return _text(self._genesis)

    @property
    def now_s(self) -> int:
        """Seconds on the chain's own clock."""
        return self.height * SLOT_NOMINAL_MS // 1000

    @property
    def pending(self) -> int:
        return len(self._pending)

    def outcome(self, signature: str) -> Outcome | None:
        """The status of a recent signature, once its block is published."""
        return self._recent.get(signature)

    def is_valid(self, blockhash: str) -> bool:
        return self._expiry.get(blockhash, -1) >= self.height

    def submit(self, transaction: SignedTransaction, *, preflight: bool = True) -> None:
        """Take a transaction in; once per signature, whatever is sent how often.

        Raises:
            BlockhashNotFound, SimulationFailed: only with `preflight`; without it such a transaction just never lands.
            TooManyPending: the queue is full.
        """
        signature = transaction.signature
        if signature in self._recent or signature in self._pending or signature in self._landing:
            return
        if not self.is_valid(transaction.blockhash):
            if preflight:
                raise BlockhashNotFound
            return
        if preflight:
            effect = self._effect(transaction, None)
            if effect.err is not None:
                raise SimulationFailed(effect.err, effect.logs)
        if self._trouble.drops():
            return
        if len(self._pending) >= PENDING_MAX:
            raise TooManyPending
        self._pending[signature] = transaction

    def produce_block(self, *, heights: int = 1) -> Block:
        """Execute everything pending in one new slot; `heights` slot times have passed (0: none is over yet)."""
        self.slot += 1
        for _ in range(heights):
            self.height += 1
            # Issued only by `publish`; until then nobody can have signed with it.
            self._expiry[self._blockhash(self.height)] = self.height + BLOCKHASH_HEIGHTS
        if heights:
            self._reprice()
        # A repeat of what is in this block must not queue again while the block is being stored.
        self._landing, self._pending = self._pending, {}
        landed = [self._land(item) for item in self._landing.values() if self.is_valid(item.blockhash)]
        transactions = [item for item in landed if item is not None]
        pools = {address: pool for address, pool in self.pools.items() if pool is not self._stored.get(address)}
        self._stored = dict(self.pools)
        wallets = {item.payer: self.wallets[item.payer] for item in transactions}
        return Block(self.slot, self.height, transactions, pools, wallets)

    def publish(self, block: Block) -> None:
        """Make a stored block visible."""
        for item in block.transactions:
            self._remember(item.signature, Outcome(block.slot, block.height, item.err))
        self._landing = {}
        self.tip = Tip(block.slot, block.height, self._blockhash(block.height))
        while self._by_age and self._by_age[0][0] < block.height - RECENT_HEIGHTS:
            del self._recent[self._by_age.popleft()[1]]
        for blockhash in [item for item, last in self._expiry.items() if last < block.height]:
            del self._expiry[blockhash]

    def _land(self, transaction: SignedTransaction) -> Executed | None:
        before = self._balances(transaction.payer)
        fee = transaction.signatures * FEE_PER_SIGNATURE
        if before[LAMPORTS] < fee:
            return None
        effect = self._effect(transaction, self._trouble.failure())
        after = effect.balances | {LAMPORTS: effect.balances[LAMPORTS] - fee}
        self.pools.update(effect.pools)
        self.wallets[transaction.payer] = after
        return Executed(
            transaction.signature,
            transaction.payer,
            reference_of(transaction),
            effect.err,
            fee,
            {mint: (units, after[mint]) for mint, units in before.items() if units != after[mint]},
            effect.logs,
        )

    def _effect(self, transaction: SignedTransaction, forced: int | None) -> Effect:
        balances = self._balances(transaction.payer)
        return execute(transaction, self.pools, self.listings, balances, self.now_s, self._arbitrage, forced)

    def _balances(self, wallet: str) -> dict[str, int]:
        return self.wallets.get(wallet) or FAUCET

    def _arbitrage(self, address: str, pool: Pool) -> Pool:
        return align(pool, self.listings[address], self._prices[address], ARBITRAGE_PPM)

    def _reprice(self) -> None:
        """At a new price step arbitrage brings every pool to the new reference."""
        if price_step(self.height) == self._priced_step:
            return
        self._set_prices()
        for address, listing in self.listings.items():
            self.pools[address] = align(self.pools[address], listing, self._prices[address])

    def _set_prices(self) -> None:
        self._priced_step = price_step(self.height)
        self._prices = {
            address: ratio(self._seed, listing.base, listing.quote, self._priced_step)
            for address, listing in self.listings.items()
        }

    def _restore(self, snapshot: Snapshot) -> None:
        # A pool that is listed no more, or with another mathematics, starts anew as listed.
        for address, pool in snapshot.pools.items():
            if type(self.pools.get(address)) is type(pool):
                self.pools[address] = pool
        self.wallets = {wallet: FAUCET | balances for wallet, balances in snapshot.wallets.items()}
        for signature, outcome in snapshot.recent:
            self._remember(signature, outcome)

    def _remember(self, signature: str, outcome: Outcome) -> None:
        self._recent[signature] = outcome
        self._by_age.append((outcome.height, signature))

    def _blockhash(self, height: int) -> str:
        return _text(hashlib.sha256(self._genesis + height.to_bytes(8)).digest())


def _text(digest: bytes) -> str:
    return str(Hash(digest))
