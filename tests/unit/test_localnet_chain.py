"""The chain's rules: once per signature, all or nothing, and a blockhash's life."""

import base64
from typing import Any

import pytest
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from libs.venues.book import quote_exact_in
from libs.venues.tokens import TOKENS
from services.localnet.blocks import Block, BlockhashNotFound, SimulationFailed
from services.localnet.chain import BLOCKHASH_HEIGHTS, FAUCET, FEE_PER_SIGNATURE, Chain
from services.localnet.execution import LAMPORTS
from services.localnet.quotes import Venue
from services.localnet.trouble import Trouble
from services.localnet.wire import (
    MEMO_PROGRAM,
    METEORA_PROGRAM,
    RAYDIUM_PROGRAM,
    Hop,
    MalformedTransaction,
    SignatureFailure,
    SignedTransaction,
    Swap,
    decode_transaction,
    instruction_data,
    parse_transaction,
    unsigned_swap,
)
from tests.wallet import Wallet

SOL, USDC, RAY, JUP = (TOKENS[symbol].mint for symbol in ("SOL", "USDC", "RAY", "JUP"))
TEN_SOL = 10 * 10**9
ONE_RAY = 10**6


@pytest.fixture
def trouble() -> Trouble:
    return Trouble(seed=1)


@pytest.fixture
def chain(trouble: Trouble) -> Chain:
    return Chain(1, bytes(32), trouble)


@pytest.fixture
def wallet() -> Wallet:
    return Wallet()


def next_block(chain: Chain, heights: int = 1) -> Block:
    block = chain.produce_block(heights=heights)
    chain.publish(block)
    return block


def land(chain: Chain, transaction: SignedTransaction) -> Any:
    """The error it lands with; None when it settled."""
    chain.submit(transaction, preflight=False)
    next_block(chain, heights=0)
    outcome = chain.outcome(transaction.signature)
    assert outcome is not None
    return outcome.err


def sol_usdc(chain: Chain, venue: str) -> str:
    wanted = (venue, "SOL", "USDC")
    return next(item.address for item in chain.listings.values() if (item.venue, item.base, item.quote) == wanted)


def custom(code: int, index: int = 0) -> dict[str, Any]:
    return {"InstructionError": [index, {"Custom": code}]}


@pytest.mark.parametrize("venue", ["raydium", "meteora", "orca"])
def test_a_swap_moves_its_pool_and_its_wallet_by_what_was_quoted(chain: Chain, wallet: Wallet, venue: str) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL, venue=venue)
    address = sol_usdc(chain, venue)
    before = chain.pools[address]
    quoted = quote_exact_in(before, SOL, TEN_SOL, chain.now_s)
    assert land(chain, order) is None
    assert chain.pools[address] != before
    balances = chain.wallets[wallet.address]
    assert balances[SOL] == FAUCET[SOL] - TEN_SOL
    assert balances[USDC] == FAUCET[USDC] + quoted.amount_out
    assert balances[LAMPORTS] == FAUCET[LAMPORTS] - FEE_PER_SIGNATURE


def test_a_signature_is_executed_once_however_often_it_is_sent(chain: Chain, wallet: Wallet) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL)
    chain.submit(order)
    chain.submit(order)
    block = chain.produce_block()
    chain.submit(order)  # while the block is being stored
    chain.publish(block)
    chain.submit(order)
    assert [item.signature for item in block.transactions] == [order.signature]
    assert next_block(chain).transactions == []
    assert chain.wallets[wallet.address][SOL] == FAUCET[SOL] - TEN_SOL


def test_a_status_shows_only_once_its_block_is_published(chain: Chain, wallet: Wallet) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL)
    chain.submit(order)
    tip = chain.tip
    block = chain.produce_block()
    assert chain.outcome(order.signature) is None
    assert chain.tip == tip
    chain.publish(block)
    assert chain.outcome(order.signature) is not None
    assert chain.tip.height == tip.height + 1


def test_a_swap_below_its_minimum_fails_on_chain_and_leaves_the_pool(chain: Chain, wallet: Wallet) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL, minimum_out=10**12)
    pools = dict(chain.pools)
    with pytest.raises(SimulationFailed) as failed:
        chain.submit(order)
    assert failed.value.err == custom(6001)
    assert land(chain, order) == custom(6001)
    assert chain.pools == pools
    balances = chain.wallets[wallet.address]
    assert (balances[SOL], balances[USDC]) == (FAUCET[SOL], FAUCET[USDC])
    assert balances[LAMPORTS] == FAUCET[LAMPORTS] - FEE_PER_SIGNATURE


def test_each_reason_to_fail_has_its_own_code(chain: Chain, wallet: Wallet) -> None:
    deep = wallet.swap(chain, SOL, USDC, TEN_SOL, venue="meteora")
    assert deep.instructions[0].swap is not None
    [(here, _)] = deep.instructions[0].swap.hops

    def with_swap(program: str = METEORA_PROGRAM, **changes: Any) -> SignedTransaction:
        return wallet.transaction(chain.tip.blockhash, (program, changes.pop("pool", here), _data(**changes)))

    assert land(chain, with_swap(amount=FAUCET[SOL] + 1)) == custom(1)
    assert land(chain, with_swap(amount=FAUCET[SOL])) == custom(6002)
    assert land(chain, with_swap(amount=1)) == custom(6004)
    assert land(chain, with_swap(program=RAYDIUM_PROGRAM)) == custom(6003)
    assert land(chain, with_swap(pool=str(Pubkey.new_unique()))) == custom(6003)
    short = wallet.transaction(chain.tip.blockhash, (METEORA_PROGRAM, here, b"short"))
    assert land(chain, short) == {"InstructionError": [0, "InvalidInstructionData"]}
    alien = wallet.transaction(chain.tip.blockhash, (str(Pubkey.new_unique()), here, b""))
    assert land(chain, alien) == {"InstructionError": [0, "UnsupportedProgramId"]}


def _data(amount: int = TEN_SOL, minimum: int = 0) -> bytes:
    return instruction_data(Swap((Hop("", True),), amount, minimum, 0, "order"))


def test_what_comes_out_of_one_pool_goes_into_the_next_and_only_the_last_amount_stays(
    chain: Chain, wallet: Wallet
) -> None:
    order = wallet.swap(chain, RAY, JUP, ONE_RAY)
    assert order.instructions[0].swap is not None
    hops = order.instructions[0].swap.hops
    quoted = int(Venue("raydium", chain).quote({"inputMint": RAY, "outputMint": JUP, "amount": ONE_RAY})["outAmount"])
    assert len(hops) == 2
    assert land(chain, order) is None
    balances = chain.wallets[wallet.address]
    changed = {mint: balances[mint] - FAUCET[mint] for mint in balances if balances[mint] != FAUCET[mint]}
    assert changed == {RAY: -ONE_RAY, JUP: quoted, LAMPORTS: -FEE_PER_SIGNATURE}


def test_a_way_that_gives_less_than_asked_or_does_not_lead_on_changes_no_pool(chain: Chain, wallet: Wallet) -> None:
    pools = dict(chain.pools)
    order = wallet.swap(chain, RAY, JUP, ONE_RAY, minimum_out=10**15)
    assert order.instructions[0].swap is not None
    first, second = order.instructions[0].swap.hops
    assert land(chain, order) == custom(6001)
    venue, tip = Pubkey.from_string(RAYDIUM_PROGRAM), chain.tip
    for hops in ((second, first), (first, first), (first, second._replace(first_in=not second.first_in))):
        keys = [Pubkey.from_string(hop.pool) for hop in hops]
        unsigned = unsigned_swap(
            venue, keys, wallet.keypair.pubkey(), Hash.from_string(tip.blockhash), Swap(hops, ONE_RAY, 0, 0, "order")
        )
        astray = parse_transaction(base64.b64decode(wallet.sign(unsigned)))
        assert land(chain, astray) == {"InstructionError": [0, "InvalidInstructionData"]}
    assert chain.pools == pools


def test_several_instructions_land_together_or_not_at_all(chain: Chain, wallet: Wallet) -> None:
    raydium, meteora = sol_usdc(chain, "raydium"), sol_usdc(chain, "meteora")
    pools = dict(chain.pools)
    good = (RAYDIUM_PROGRAM, raydium, _data())
    memo = (MEMO_PROGRAM, raydium, b"split")
    bad = (METEORA_PROGRAM, meteora, _data(minimum=10**15))
    assert land(chain, wallet.transaction(chain.tip.blockhash, good, memo, bad)) == custom(6001, index=2)
    assert chain.pools == pools
    fine = (METEORA_PROGRAM, meteora, _data())
    assert land(chain, wallet.transaction(chain.tip.blockhash, good, memo, fine)) is None
    assert chain.wallets[wallet.address][SOL] == FAUCET[SOL] - 2 * TEN_SOL


def test_a_blockhash_lives_for_150_heights(chain: Chain, wallet: Wallet) -> None:
    last, late = wallet.swap(chain, SOL, USDC, TEN_SOL), wallet.swap(chain, SOL, USDC, TEN_SOL)
    next_block(chain, heights=BLOCKHASH_HEIGHTS)
    assert land(chain, last) is None
    next_block(chain)
    with pytest.raises(BlockhashNotFound):
        chain.submit(late)
    chain.submit(late, preflight=False)
    next_block(chain)
    assert chain.outcome(late.signature) is None


def test_what_waits_while_its_blockhash_expires_never_lands(chain: Chain, wallet: Wallet) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL)
    chain.submit(order)
    assert next_block(chain, heights=BLOCKHASH_HEIGHTS + 1).transactions == []
    assert chain.outcome(order.signature) is None


def test_outcomes_are_kept_at_least_as_long_as_their_blockhash_lives(chain: Chain, wallet: Wallet) -> None:
    order = wallet.swap(chain, SOL, USDC, TEN_SOL)
    assert land(chain, order) is None
    next_block(chain, heights=BLOCKHASH_HEIGHTS)
    chain.submit(order)
    assert next_block(chain).transactions == []
    next_block(chain, heights=BLOCKHASH_HEIGHTS)
    assert chain.outcome(order.signature) is None


def test_a_dropped_transaction_leaves_no_trace_and_may_be_sent_again(
    chain: Chain, trouble: Trouble, wallet: Wallet
) -> None:
    trouble.update({"drop_next": 1})
    order = wallet.swap(chain, SOL, USDC, TEN_SOL)
    chain.submit(order)
    next_block(chain)
    assert chain.outcome(order.signature) is None
    assert land(chain, order) is None


def test_injected_failures_fail_on_chain(chain: Chain, trouble: Trouble, wallet: Wallet) -> None:
    trouble.update({"revert_next": 1})
    assert land(chain, wallet.swap(chain, SOL, USDC, TEN_SOL)) == custom(6000)
    assert land(chain, wallet.swap(chain, SOL, USDC, TEN_SOL)) is None
    trouble.update({"slippage_rate": 1})
    assert land(chain, wallet.swap(chain, SOL, USDC, TEN_SOL)) == custom(6001)
    trouble.clear()
    assert land(chain, wallet.swap(chain, SOL, USDC, TEN_SOL)) is None


def test_two_swaps_alike_in_all_but_time_are_two_transactions(chain: Chain, wallet: Wallet) -> None:
    first, second = wallet.swap(chain, SOL, USDC, TEN_SOL), wallet.swap(chain, SOL, USDC, TEN_SOL)
    assert first.signature != second.signature
    assert land(chain, first) is None
    assert land(chain, second) is None


def test_what_is_no_signed_transaction_is_refused(chain: Chain, wallet: Wallet) -> None:
    venue = Venue("raydium", chain)
    quote = venue.quote({"inputMint": SOL, "outputMint": USDC, "amount": TEN_SOL})
    unsigned = venue.swap({"quoteResponse": quote, "userPublicKey": wallet.address})["swapTransaction"]
    raw = base64.b64decode(unsigned)
    with pytest.raises(SignatureFailure):
        parse_transaction(raw)
    signed = bytearray(base64.b64decode(wallet.sign(unsigned)))
    signed[-1] ^= 1
    with pytest.raises((SignatureFailure, MalformedTransaction)):
        parse_transaction(bytes(signed))
    for junk in (b"", b"\x01", raw[:-1], bytes(1233), b"\xff" * 100):
        with pytest.raises((MalformedTransaction, SignatureFailure)):
            parse_transaction(junk)
    with pytest.raises(MalformedTransaction):
        decode_transaction("not base64!", "base64")
    with pytest.raises(MalformedTransaction):
        decode_transaction("0OIl", "base58")
    tx = VersionedTransaction.from_bytes(base64.b64decode(wallet.sign(unsigned)))
    assert decode_transaction(str(tx.signatures[0]), "base58") == bytes(tx.signatures[0])
