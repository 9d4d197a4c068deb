"""Ways from one token to another over a venue's pools."""

from collections.abc import Mapping
from itertools import permutations

from libs.venues.book import Pool, mints
from services.localnet.wire import Hop

Path = tuple[Hop, ...]


def find_paths(pools: Mapping[str, Pool]) -> dict[tuple[str, str], list[Path]]:
    """By mint in and mint out: the pool of the pair, or, where there is none, every way over one token in between."""
    direct: dict[tuple[str, str], Hop] = {}
    for address, pool in pools.items():
        first, second = mints(pool)
        direct[first, second], direct[second, first] = Hop(address, first_in=True), Hop(address, first_in=False)
    traded = sorted({mint for mint, _ in direct})
    paths: dict[tuple[str, str], list[Path]] = {pair: [(hop,)] for pair, hop in direct.items()}
    for mint_in, between, mint_out in permutations(traded, 3):
        here, there = direct.get((mint_in, between)), direct.get((between, mint_out))
        if here and there and (mint_in, mint_out) not in direct:
            paths.setdefault((mint_in, mint_out), []).append((here, there))
    return paths
