"""The running chain: makes blocks in time, stores each one, then shows it."""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from libs.events.crash import crossing
from services.localnet.blocks import Block
from services.localnet.chain import BLOCKHASH_HEIGHTS, RECENT_HEIGHTS, SLOT_NOMINAL_MS, Chain
from services.localnet.storage import Storage
from services.localnet.trouble import Trouble
from services.localnet.wire import SignedTransaction

BLOCK_WAIT_S = 1.0
SMALL_BLOCK = 4  # transactions; written sooner than a thread is woken for them

log = structlog.get_logger()


class Node:
    """`slot_ms` 0: a block as soon as a transaction waits, and one each nominal slot time anyway."""

    def __init__(self, storage: Storage, trouble: Trouble, *, seed: int, slot_ms: int) -> None:
        self.storage, self.trouble = storage, trouble
        snapshot = storage.snapshot(RECENT_HEIGHTS)
        self.chain = Chain(seed, storage.genesis, trouble, snapshot)
        self._slot_s = slot_ms / 1000
        self._height_s = (slot_ms or SLOT_NOMINAL_MS) / 1000
        self._waiting = asyncio.Event()
        self._shown = asyncio.Event()  # one for each block: set when what is pending now is in it and visible
        self._one_at_a_time = asyncio.Lock()
        # A thread of its own: the loop goes on collecting the next block while this one is being stored.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        self._tidying: asyncio.Task[None] | None = None
        log.info("chain_opened", slot=self.chain.slot, height=self.chain.height, resumed=snapshot is not None)

    def submit(self, transaction: SignedTransaction, *, preflight: bool) -> None:
        """Queue a transaction for the next block. Errors as `Chain.submit`."""
        self.chain.submit(transaction, preflight=preflight)
        if self.chain.pending:
            self._waiting.set()

    async def caught_up(self) -> None:
        """Where slots have no length: until what is pending now is in a visible block, if that does not take long."""
        if self._slot_s or not self.chain.pending:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(BLOCK_WAIT_S):
                await self._shown.wait()

    async def make_block(self, *, heights: int = 1) -> None:
        """Execute, store, publish."""
        async with self._one_at_a_time:
            block = self.chain.produce_block(heights=heights)
            shown, self._shown = self._shown, asyncio.Event()
            with crossing("block.write"):
                await self._store(block)
            self.chain.publish(block)
            shown.set()
        if self.storage.grown() and self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        """Most of it while blocks are written, and the rest between two blocks."""
        try:
            await asyncio.to_thread(self.storage.checkpoint)
            async with self._one_at_a_time:
                await asyncio.to_thread(self.storage.checkpoint)
        except sqlite3.Error as error:  # blocks are stored all the same, and it is tried again
            log.warning("checkpoint_failed", reason=str(error))
        finally:
            self._tidying = None

    async def _store(self, block: Block) -> None:
        now_s = int(time.time())
        if len(block.transactions) <= SMALL_BLOCK:
            self.storage.write(block, now_s)
        else:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.storage.write, block, now_s)

    async def expire_blockhashes(self) -> None:
        """Let a blockhash's whole life pass at once."""
        await self.make_block(heights=BLOCKHASH_HEIGHTS + 1)

    async def run(self, stop: asyncio.Event) -> None:
        """Make blocks until `stop`; raises when a block cannot be stored."""
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(stop.wait())
        next_height = loop.time() + self._height_s
        try:
            while not stop.is_set():
                await self._until_due(next_height, stopping)
                due = loop.time() >= next_height
                await self.make_block(heights=1 if due else 0)
                if due:
                    # After a pause (a suspended laptop) time goes on from now; it is not made up for in a burst.
                    next_height = max(next_height, loop.time() - self._height_s) + self._height_s
        finally:
            stopping.cancel()
            if self._tidying:
                await asyncio.gather(self._tidying, return_exceptions=True)
            self._disk.shutdown()

    async def _until_due(self, next_height: float, stopping: "asyncio.Task[bool]") -> None:
        left = max(0.0, next_height - asyncio.get_running_loop().time())
        if self._slot_s:
            await asyncio.wait({stopping}, timeout=left)
            return
        waiting = asyncio.ensure_future(self._waiting.wait())
        await asyncio.wait({stopping, waiting}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._waiting.clear()
