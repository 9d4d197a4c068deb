"""JSON-RPC 2.0 over HTTP: calls made while a request is in flight share the next one."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp

from libs.service.coalesce import Coalescer
from libs.service.http import PeerTrouble, ask

RPC_DEADLINE_MS = 3_000
CALLS_PER_REQUEST_MAX = 192  # nodes limit them
REQUESTS_IN_FLIGHT_MAX = 4
METHOD_NOT_FOUND = -32601


class ChainUnavailable(Exception):
    """The node gave no usable answer: nothing is known, ask again."""


class RpcRefused(Exception):
    """The node answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Call(NamedTuple):
    """One call."""

    method: str
    params: tuple[Any, ...] = ()


Results = list[Any | RpcRefused]


class Rpc:
    """One node."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self._groups: Coalescer[Sequence[Call], Results] = Coalescer(
            self._request, CALLS_PER_REQUEST_MAX, REQUESTS_IN_FLIGHT_MAX, len
        )

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one call.

        Raises:
            RpcRefused: the node's error.
            ChainUnavailable: no answer, or none that is JSON-RPC.
        """
        result = (await self.together(Call(method, params)))[0]
        if isinstance(result, RpcRefused):
            raise result
        return result

    async def together(self, *calls: Call) -> Results:
        """Calls that leave in one request, so that behind a balancer one node answers them all.

        Raises:
            ChainUnavailable: no answer, or none that is JSON-RPC.
        """
        try:
            async with asyncio.timeout(RPC_DEADLINE_MS / 1000):
                return await self._groups.submit(calls)
        except (TimeoutError, PeerTrouble) as trouble:
            raise _known(trouble) from trouble

    async def gather(self, groups: Sequence[Sequence[Call]]) -> list[Results | Exception]:
        """`together` for many groups at once; what one would raise is its own result."""
        results = await self._groups.gather(groups, RPC_DEADLINE_MS / 1000)
        return [_known(result) if isinstance(result, Exception) else result for result in results]

    async def aclose(self) -> None:
        await self._groups.aclose()

    async def _request(self, groups: list[Sequence[Call]]) -> Sequence[Results | Exception]:
        calls = [call for group in groups for call in group]
        body = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
            for number, call in enumerate(calls)
        ]
        status, answer = await ask(
            self._session, self._url, body=body[0] if len(body) == 1 else body, deadline_ms=RPC_DEADLINE_MS
        )
        if status != 200:
            raise ChainUnavailable(f"HTTP {status}")
        results = _by_id(answer if isinstance(answer, list) else [answer], len(calls))
        parts = iter(results)
        return [[next(parts) for _call in group] for group in groups]


def _known(trouble: Exception) -> ChainUnavailable:
    """What a request met, in our words; anything else is a bug of ours."""
    match trouble:
        case TimeoutError():
            return ChainUnavailable(f"no answer within {RPC_DEADLINE_MS} ms")
        case PeerTrouble():
            return ChainUnavailable(str(trouble))
        case ChainUnavailable():
            return trouble
    raise trouble


def _by_id(answers: list[Any], count: int) -> Results:
    """Answers of a batch may come in any order; one that cannot be made out is its own call's trouble alone."""
    found: dict[int, Any] = {}
    for answer in answers:
        number = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(number, int) or not 0 <= number < count:
            continue
        error = answer.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            found[number] = RpcRefused(code if isinstance(code, int) else 0, str(error.get("message"))[:200])
        else:
            found[number] = answer.get("result")
    if not found:
        raise ChainUnavailable(f"not JSON-RPC, or no answer to any of {count} calls: {str(answers[:1])[:100]}")
    return [found[number] if number in found else RpcRefused(0, "left out by the node") for number in range(count)]
