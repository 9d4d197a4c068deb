"""JSON-RPC 2.0 over HTTP: calls made while a request is in flight share the next one, if the node takes lists."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp

from libs.service.coalesce import Coalescer, each
from libs.service.http import LIST_REFUSED, PeerTrouble, ask, in_short
from services.executor import observe

RPC_DEADLINE_MS = 3_000
CALLS_PER_REQUEST_MAX = 192  # nodes limit them, and some take but one
REQUESTS_IN_FLIGHT_MAX = 4
LONGER_AGAIN_S = 600.0  # after a list was refused, until one as long is tried again
METHOD_NOT_FOUND = -32601
NODE_UNHEALTHY = -32005
LEFT_OUT = 0  # our own: the node gave no code, or no answer to this one
# What a node says of a call that it answers at other times.
_ERROR_OF_ITS_OWN, _STORAGE_AWAY = -32603, -32019
_BEHIND = (-32004, -32014, -32016)
_TOO_OFTEN = (429, -32429)
PASSING = frozenset({LEFT_OUT, NODE_UNHEALTHY, _ERROR_OF_ITS_OWN, _STORAGE_AWAY, *_BEHIND, *_TOO_OFTEN})
_REFUSED = frozenset({400, 404, 405, 422})  # so some say of one call what its error says as well
_TOO_MANY_CALLS = LIST_REFUSED | {403, 405}


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
        self._calls_max = CALLS_PER_REQUEST_MAX
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
        """Calls that leave at once, in one request if the node takes lists; else each may meet another node.

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
        answers = iter(await self._ask([call for group in groups for call in group]))
        return [_whole([next(answers) for _call in group]) for group in groups]

    async def _ask(self, calls: Sequence[Call]) -> list[Any | Exception]:
        """In as many requests as the node needs; what one of several met is the answer to each of its calls."""
        size = self._calls_max
        if len(calls) > size:
            return await self._apart([calls[begin : begin + size] for begin in range(0, len(calls), size)])
        body = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
            for number, call in enumerate(calls)
        ]
        status, answer = await ask(
            self._session, self._url, body=body[0] if len(body) == 1 else body, deadline_ms=RPC_DEADLINE_MS
        )
        if len(calls) > 1 and _is_refused(status, answer):
            half = len(calls) // 2
            self._shorten(half, f"HTTP {status}: {in_short(answer, 100)}")
            # One after the other: the first finds out how long a list may be.
            return [*await self._apart([calls[:half]]), *await self._apart([calls[half:]])]
        if (
            len(calls) == 1
            and status in _REFUSED
            and isinstance(answer, dict)
            and isinstance(answer.get("error"), dict)
        ):
            return _by_id([{**answer, "id": 0}], 1)
        if status != 200:
            raise ChainUnavailable(f"HTTP {status}")
        return _by_id(answer if isinstance(answer, list) else [answer], len(calls))

    async def _apart(self, parts: Sequence[Sequence[Call]]) -> list[Any | Exception]:
        answers = await each(map(self._ask, parts))
        return [
            one
            for part, answer in zip(parts, answers, strict=True)
            for one in (answer if isinstance(answer, list) else [answer] * len(part))
        ]

    def _shorten(self, calls_max: int, why: str) -> None:
        self._calls_max = min(self._calls_max, calls_max)
        observe.list_refused(why, self._calls_max)
        asyncio.get_running_loop().call_later(LONGER_AGAIN_S, self._lengthen)

    def _lengthen(self) -> None:
        self._calls_max = CALLS_PER_REQUEST_MAX


def _is_refused(status: int, answer: Any) -> bool:
    """Whether a list was as a whole: it is answered by one error, and not that of a node that has other trouble."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        return status in _TOO_MANY_CALLS and error.get("code") != NODE_UNHEALTHY
    return status in _TOO_MANY_CALLS - {200}


def _whole(answers: list[Any | Exception]) -> Results | Exception:
    """A group's answers, or why it has none."""
    troubles = (answer for answer in answers if isinstance(answer, (PeerTrouble, ChainUnavailable)))
    return next(troubles, answers)


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
            found[number] = RpcRefused(code if isinstance(code, int) else LEFT_OUT, in_short(error.get("message"), 200))
        else:
            found[number] = answer.get("result")
    if not found:
        raise ChainUnavailable(f"not JSON-RPC, or no answer to any of {count} calls: {in_short(answers[:1], 100)}")
    return [
        found[number] if number in found else RpcRefused(LEFT_OUT, "left out by the node") for number in range(count)
    ]
