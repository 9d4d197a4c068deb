"""A killed chain comes back at a block's end, and remembers what it must not do twice."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from libs.venues.tokens import TOKENS
from services.localnet.blocks import Block
from services.localnet.chain import RECENT_HEIGHTS, Chain
from services.localnet.node import Node
from services.localnet.storage import FILE_NAME, Storage, StorageUnusable, open_storage
from services.localnet.trouble import Trouble
from tests.wallet import Wallet

SOL, USDC = TOKENS["SOL"].mint, TOKENS["USDC"].mint
TEN_SOL = 10 * 10**9


def opened(storage: Storage) -> Chain:
    return Chain(1, storage.genesis, Trouble(1), storage.snapshot(RECENT_HEIGHTS))


def block(chain: Chain, storage: Storage, heights: int = 1) -> Block:
    made = chain.produce_block(heights=heights)
    storage.write(made, 1_700_000_000)
    chain.publish(made)
    return made


def test_the_chain_goes_on_after_a_kill_where_its_last_block_ended(tmp_path: Path) -> None:
    wallet = Wallet()
    killed = Storage(tmp_path / "localnet.sqlite3")
    before = opened(killed)
    block(before, killed, heights=7)
    settled = wallet.swap(before, SOL, USDC, TEN_SOL, venue="meteora", reference="order-1")
    ticks = wallet.swap(before, SOL, USDC, TEN_SOL, venue="orca", reference="order-3")
    failed = wallet.swap(before, SOL, USDC, TEN_SOL, minimum_out=10**15, reference="order-2")
    for order in (settled, ticks, failed):
        before.submit(order, preflight=False)
    block(before, killed)
    lost = wallet.swap(before, SOL, USDC, TEN_SOL)
    before.submit(lost)

    with open_storage(tmp_path) as storage:  # the first one was never closed, as after SIGKILL
        after = opened(storage)
        assert (after.slot, after.height, after.tip) == (before.slot, before.height, before.tip)
        assert after.pools == before.pools
        assert after.wallets == before.wallets
        for order in (settled, ticks, failed, lost):
            assert after.outcome(order.signature) == before.outcome(order.signature)
        after.submit(settled)
        assert block(after, storage).transactions == []
        after.submit(lost)
        assert [item.signature for item in block(after, storage).transactions] == [lost.signature]
    killed.close()


def test_what_was_written_ahead_finds_its_place_beside_blocks_and_the_file_of_it_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.localnet.storage.PAGES_PER_CHECKPOINT", 60)
    monkeypatch.setattr("services.localnet.storage.CHECKPOINTS_MISSED_MAX", 1_000)  # so no block does it by the way
    ahead = tmp_path / f"{FILE_NAME}-wal"

    async def live(storage: Storage) -> None:
        node = Node(storage, Trouble(1), seed=1, slot_ms=0)
        stop = asyncio.Event()
        running = asyncio.create_task(node.run(stop))
        for _ in range(3_000):
            await node.make_block()
            await asyncio.sleep(0)
        stop.set()
        await running
        assert not storage.grown()

    with open_storage(tmp_path) as storage:
        asyncio.run(live(storage))
        # Three thousand blocks are some six thousand pages.
        assert ahead.stat().st_size < 600 * 4_096
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            tip = other.execute("SELECT value FROM meta WHERE name = 'tip'").fetchone()
    assert orjson.loads(tip[0])[1] >= 3_000


def test_a_block_that_was_not_stored_never_happened(tmp_path: Path) -> None:
    wallet = Wallet()
    with open_storage(tmp_path) as storage:
        chain = opened(storage)
        block(chain, storage)
        order = wallet.swap(chain, SOL, USDC, TEN_SOL)
        chain.submit(order)
        chain.produce_block()
        again = opened(storage)
        assert again.wallets == {}
        again.submit(order)
        assert [item.err for item in block(again, storage).transactions] == [None]


def test_transactions_of_any_age_are_found_by_signature_and_by_reference(tmp_path: Path) -> None:
    wallet = Wallet()
    with open_storage(tmp_path) as storage:
        chain = opened(storage)
        orders = [wallet.swap(chain, SOL, USDC, TEN_SOL, reference=name) for name in ("a", "b", "b", "")]
        failing = wallet.swap(chain, SOL, USDC, TEN_SOL, minimum_out=10**15, reference="a")
        for order in (*orders, failing):
            chain.submit(order, preflight=False)
        made = block(chain, storage)
        block(chain, storage, heights=1_000)
        assert chain.outcome(orders[0].signature) is None
        found = storage.find(orders[0].signature)
        assert found is not None
        assert (found.slot, found.transaction) == (made.slot, made.transactions[0])
        with open_storage(tmp_path) as again:  # which has it from the disk
            assert again.find(orders[0].signature) == found
        assert [item.transaction.err is None for item in storage.by_reference("a")] == [True, False]
        assert storage.settled_summary() == (2, ["b"])
        assert storage.find(Wallet().swap(chain, SOL, USDC, TEN_SOL).signature) is None


def test_a_block_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    wallet = Wallet()
    with open_storage(tmp_path) as storage:
        chain = opened(storage)
        chain.submit(wallet.swap(chain, SOL, USDC, TEN_SOL))
        made = block(chain, storage)
        broken = made._replace(slot=99, transactions=made.transactions * 2)
        with pytest.raises(Exception, match="UNIQUE"):
            storage.write(broken, 1)
        assert opened(storage).slot == made.slot


def test_a_file_that_is_no_chain_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("something else, and long enough to be looked at" * 100)
    with pytest.raises(StorageUnusable, match=r"not a database"), open_storage(tmp_path):
        pass
