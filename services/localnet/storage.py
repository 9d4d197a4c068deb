"""The chain on disk: one SQLite file, one transaction per block, so a killed process comes back at a block's end.

Writing, reading and tidying up have connections of their own: large blocks are written from a thread, small ones and
single rows in the event loop. The write-ahead log is not flushed at every block: SIGKILL loses nothing, a power cut may
lose the newest blocks (the world outside is a stand-in; what must survive power cuts is the order log).
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from services.localnet.blocks import Block, Executed, Outcome, Snapshot
from services.localnet.execution import ChainError
from services.localnet.pool_json import pool_json, pool_of

FILE_NAME = "localnet.sqlite3"
CACHE_KIB = 65_536
LISTED_MAX = 1_000
NEWEST_KEPT = 4_096  # transactions asked for right after their block, as nearly all are, need no disk
PAGES_PER_CHECKPOINT = 8_000
PAGES_PER_BLOCK = 6  # beside one for each transaction, about
CHECKPOINTS_MISSED_MAX = 4  # then whoever writes a block does it, and waits for the disk

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pools (address TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wallets (address TEXT PRIMARY KEY, balances BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transactions (
    signature TEXT NOT NULL, slot INTEGER NOT NULL, height INTEGER NOT NULL, time_s INTEGER NOT NULL,
    reference TEXT NOT NULL, payer TEXT NOT NULL, err BLOB, fee INTEGER NOT NULL, balances BLOB NOT NULL,
    logs BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_start_of_signature ON transactions (substr(signature, 1, 16));
CREATE INDEX IF NOT EXISTS by_reference_and_outcome ON transactions (reference, err);
DROP INDEX IF EXISTS by_signature;
DROP INDEX IF EXISTS by_reference;
DROP INDEX IF EXISTS settled;
"""
# Signatures come in no order, so each one writes a page of its index anew: 93 bits of it tell them apart and keep
# four times as many on a page.
_BY_SIGNATURE = "SELECT * FROM transactions WHERE substr(signature, 1, 16) = substr(?1, 1, 16) AND signature = ?1"


class StorageUnusable(Exception):
    """The folder or the file in it cannot be used; the text is one line."""


class Stored(NamedTuple):
    """An executed transaction with the block it is in."""

    slot: int
    time_s: int
    transaction: Executed


class Storage:
    """Open with `open_storage`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _connect(path)
        self._writer.executescript(_SCHEMA)
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('genesis', ?)", (os.urandom(32),))
        self._writer.commit()
        self._reader = _connect(path)
        self._tidier = _connect(path)
        self._unmoved = 0
        row = self._reader.execute("SELECT value FROM meta WHERE name = 'genesis'").fetchone()
        self.genesis: bytes = row[0]
        self._newest: OrderedDict[str, Stored] = OrderedDict()

    def close(self) -> None:
        self._writer.close()
        self._reader.close()
        self._tidier.close()

    def write(self, block: Block, time_s: int) -> None:
        """Make one block durable, or raise and leave the file at the block before."""
        with self._writer as db:
            db.executemany(
                "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(block, time_s, item) for item in block.transactions],
            )
            pools = [(address, pool_json(pool)) for address, pool in block.pools.items()]
            db.executemany("INSERT OR REPLACE INTO pools VALUES (?, ?)", pools)
            wallets = [(wallet, orjson.dumps(balances)) for wallet, balances in block.wallets.items()]
            db.executemany("INSERT OR REPLACE INTO wallets VALUES (?, ?)", wallets)
            tip = orjson.dumps([block.slot, block.height])
            db.execute("INSERT OR REPLACE INTO meta VALUES ('tip', ?)", (tip,))
        self._unmoved += PAGES_PER_BLOCK + len(block.transactions)
        for item in block.transactions:
            self._newest[item.signature] = Stored(block.slot, time_s, item)
        while len(self._newest) > NEWEST_KEPT:
            self._newest.popitem(last=False)

    def grown(self) -> bool:
        """Whether there is enough in the write-ahead log for a `checkpoint`."""
        return self._unmoved >= PAGES_PER_CHECKPOINT

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log to its place. Takes as long as the disk does: call it from a thread.

        Blocks may be written meanwhile. The log begins anew only when all of it was moved while none was written.
        """
        self._unmoved = 0
        self._tidier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def snapshot(self, recent_heights: int) -> Snapshot | None:
        """The stored state with outcomes of the newest heights, or None when nothing was ever stored."""
        row = self._reader.execute("SELECT value FROM meta WHERE name = 'tip'").fetchone()
        if row is None:
            return None
        slot, height = orjson.loads(row[0])
        pools = self._reader.execute("SELECT address, state FROM pools").fetchall()
        wallets = self._reader.execute("SELECT address, balances FROM wallets").fetchall()
        recent = self._reader.execute(
            "SELECT signature, slot, height, err FROM transactions WHERE rowid > "
            "coalesce((SELECT rowid FROM transactions WHERE height < ? ORDER BY rowid DESC LIMIT 1), 0) ORDER BY rowid",
            (height - recent_heights,),
        )
        return Snapshot(
            slot,
            height,
            {address: pool_of(state) for address, state in pools},
            {wallet: orjson.loads(balances) for wallet, balances in wallets},
            [(signature, Outcome(slot, at, _error(err))) for signature, slot, at, err in recent],
        )

    def find(self, signature: str) -> Stored | None:
        """An executed transaction of any age."""
        if newest := self._newest.get(signature):
            return newest
        row = self._reader.execute(_BY_SIGNATURE, (signature,)).fetchone()
        return _stored(row) if row else None

    def by_reference(self, reference: str) -> list[Stored]:
        """Executed transactions with this reference, oldest first, at most LISTED_MAX."""
        rows = self._reader.execute(
            "SELECT * FROM transactions WHERE reference = ? ORDER BY rowid LIMIT ?", (reference, LISTED_MAX)
        )
        return [_stored(row) for row in rows]

    def settled_summary(self) -> tuple[int, list[str]]:
        """(references settled at all, those settled more than once). Reads an index as long as the chain: call
        it from a thread."""
        reader = _connect(self._path)
        try:
            where = "FROM transactions WHERE err IS NULL AND reference <> ''"
            count = reader.execute(f"SELECT count(DISTINCT reference) {where}").fetchone()[0]
            repeated = reader.execute(
                f"SELECT reference {where} GROUP BY reference HAVING count(*) > 1 LIMIT ?",
                (LISTED_MAX,),
            ).fetchall()
        finally:
            reader.close()
        return count, [row[0] for row in repeated]


@contextmanager
def open_storage(folder: Path) -> Iterator[Storage]:
    """The chain's file in `folder`, made if absent.

    Raises:
        StorageUnusable: no right to write there, or the file is not such a chain.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = Storage(folder / FILE_NAME)
    except (OSError, sqlite3.Error) as error:
        raise StorageUnusable(f"{folder / FILE_NAME}: {error}") from None
    try:
        yield storage
    finally:
        storage.close()


def _connect(path: Path) -> sqlite3.Connection:
    # One thread at a time uses each connection; which thread it is may change.
    db = sqlite3.connect(path, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINTS_MISSED_MAX * PAGES_PER_CHECKPOINT}")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return db


def _row(block: Block, time_s: int, item: Executed) -> tuple[Any, ...]:
    err = None if item.err is None else orjson.dumps(item.err)
    return (
        item.signature, block.slot, block.height, time_s, item.reference, item.payer, err, item.fee,
        orjson.dumps(item.balances), orjson.dumps(item.logs),
    )  # fmt: skip


def _stored(row: tuple[Any, ...]) -> Stored:
    signature, slot, _, time_s, reference, payer, err, fee, balances, logs = row
    changed = {mint: (before, after) for mint, (before, after) in orjson.loads(balances).items()}
    executed = Executed(signature, payer, reference, _error(err), fee, changed, orjson.loads(logs))
    return Stored(slot, time_s, executed)


def _error(err: bytes | None) -> ChainError | None:
    loaded: ChainError | None = None if err is None else orjson.loads(err)
    return loaded
