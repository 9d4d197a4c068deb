"""The chain's height, as far as what venues tell of theirs has to be held against it."""

from collections.abc import Sequence

from services.executor.chain import Chain
from services.executor.domain import believable
from services.executor.rpc import ChainUnavailable


class Heights:
    """The node is asked only when what it said last does not explain a venue's height: some once a minute."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._seen: int | None = None

    async def beside(self, told: Sequence[int]) -> int | None:
        """A height to judge these last valid ones by; None when the node says none."""
        seen = self._seen
        if seen is None or not all(believable(height, seen) for height in told):
            try:
                self._seen = await self._chain.height()
            except ChainUnavailable:
                return None
        return self._seen
