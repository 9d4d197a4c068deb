"""The chain's JSON-RPC 2.0, shaped and numbered as a Solana node's."""

from collections.abc import Callable
from typing import Any

import orjson
from solders.signature import Signature

from services.localnet import shapes
from services.localnet.blocks import BlockhashNotFound, Outcome, SimulationFailed, TooManyPending
from services.localnet.chain import BLOCKHASH_HEIGHTS, FINALIZED_SLOTS
from services.localnet.node import Node
from services.localnet.wire import (
    MalformedTransaction,
    SignatureFailure,
    decode_transaction,
    parse_transaction,
)

BATCH_MAX = 512
STATUSES_MAX = 256
SLOTS_IN_EPOCH = 432_000
VERSION = {"solana-core": "2.1.0", "feature-set": 0}

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
PREFLIGHT_FAILURE = -32002
SIGNATURE_FAILURE = -32003
NODE_UNHEALTHY = -32005


class RpcError(Exception):
    """Answered as a JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.code, self.message, self.data = code, message, data


class Rpc:
    def __init__(self, node: Node) -> None:
        self._node, self._chain = node, node.chain
        self._methods: dict[str, Callable[[list[Any]], Any]] = {
            "getHealth": lambda _: "ok",
            "getVersion": lambda _: VERSION,
            "getGenesisHash": lambda _: self._chain.genesis_hash,
            "getSlot": lambda _: self._chain.tip.slot,
            "getBlockHeight": lambda _: self._chain.tip.height,
            "getFirstAvailableBlock": lambda _: 0,
            "getEpochInfo": self._epoch_info,
            "getLatestBlockhash": self._latest_blockhash,
            "isBlockhashValid": lambda params: self._at_tip(self._chain.is_valid(_text(params, 0, "blockhash"))),
            "sendTransaction": self._send_transaction,
            "getSignatureStatuses": self._signature_statuses,
            "getTransaction": self._transaction,
            "getBalance": self._balance,
            "getTokenAccountsByOwner": self._token_accounts,
        }

    async def answer(self, body: bytes) -> bytes | None:
        """The response to one request or a batch of them; None when all were notifications.

        A batch may be worked on in any order: what it sends comes first, and where blocks come as soon as there is
        work the rest is answered after theirs, so that one conversation tells how it ended.
        """
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            return orjson.dumps(_failure(None, PARSE_ERROR, "Parse error"))
        if not isinstance(request, list):
            single = self._one(request)
            return None if single is None else orjson.dumps(single)
        if not request:
            return orjson.dumps(_failure(None, INVALID_REQUEST, "Invalid request: an empty batch"))
        if len(request) > BATCH_MAX:
            return orjson.dumps(_failure(None, INVALID_REQUEST, f"Invalid request: a batch has at most {BATCH_MAX}"))
        sent = {place: self._one(call) for place, call in enumerate(request) if _sends(call)}
        if 0 < len(sent) < len(request):
            await self._node.caught_up()
        every = (sent[place] if place in sent else self._one(call) for place, call in enumerate(request))
        answers = [answer for answer in every if answer is not None]
        return orjson.dumps(answers) if answers else None

    def _one(self, request: Any) -> dict[str, Any] | None:
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(
            request.get("method"), str
        ):  # fmt: skip
            return _failure(_id_of(request), INVALID_REQUEST, "Invalid request")
        answer = self._call(_id_of(request), request["method"], request.get("params", []))
        return answer if "id" in request else None

    def _call(self, request_id: Any, name: str, params: Any) -> dict[str, Any]:
        method = self._methods.get(name)
        if method is None:
            return _failure(request_id, METHOD_NOT_FOUND, "Method not found")
        params = [] if params is None else params
        if not isinstance(params, list):
            return _failure(request_id, INVALID_PARAMS, "Invalid params: expected an array")
        try:
            return {"jsonrpc": "2.0", "result": method(params), "id": request_id}
        except RpcError as error:
            return _failure(request_id, error.code, error.message, error.data)

    def _epoch_info(self, _params: list[Any]) -> dict[str, int]:
        tip = self._chain.tip
        epoch, index = divmod(tip.slot, SLOTS_IN_EPOCH)
        where = {"epoch": epoch, "slotIndex": index, "slotsInEpoch": SLOTS_IN_EPOCH}
        return {**where, "absoluteSlot": tip.slot, "blockHeight": tip.height}

    def _latest_blockhash(self, _params: list[Any]) -> Any:
        tip = self._chain.tip
        return self._at_tip({"blockhash": tip.blockhash, "lastValidBlockHeight": tip.height + BLOCKHASH_HEIGHTS})

    def _send_transaction(self, params: list[Any]) -> str:
        options = _options(params, 1)
        encoding = options.get("encoding", "base58")
        if encoding not in {"base58", "base64"}:
            raise RpcError(INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
        try:
            transaction = parse_transaction(decode_transaction(_text(params, 0, "transaction"), encoding))
        except MalformedTransaction as error:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        except SignatureFailure as error:
            raise RpcError(SIGNATURE_FAILURE, str(error)) from None
        # Memory knows every signature whose blockhash may still be valid; only older ones need the disk.
        if not self._chain.is_valid(transaction.blockhash) and self._node.storage.find(transaction.signature):
            return transaction.signature
        try:
            self._node.submit(transaction, preflight=options.get("skipPreflight") is not True)
        except BlockhashNotFound:
            raise _simulation_failed("Blockhash not found", "BlockhashNotFound", []) from None
        except SimulationFailed as error:
            raise _simulation_failed(shapes.describe_error(error.err), error.err, error.logs) from None
        except TooManyPending:
            raise RpcError(NODE_UNHEALTHY, "Node is behind: too many pending transactions") from None
        return transaction.signature

    def _signature_statuses(self, params: list[Any]) -> Any:
        signatures = params[0] if params else None
        if not isinstance(signatures, list) or len(signatures) > STATUSES_MAX:
            raise RpcError(INVALID_PARAMS, f"Invalid params: expected an array of at most {STATUSES_MAX} signatures")
        search = _options(params, 1).get("searchTransactionHistory") is True
        return self._at_tip([self._status(_signature(item), search) for item in signatures])

    def _status(self, signature: str, search: bool) -> dict[str, Any] | None:
        outcome = self._chain.outcome(signature)
        if outcome is None and search and (stored := self._node.storage.find(signature)):
            if stored.slot > self._chain.tip.slot:
                return None  # stored, but its block is not shown yet
            outcome = Outcome(stored.slot, 0, stored.transaction.err)
        return shapes.status(outcome, self._chain.tip.slot, FINALIZED_SLOTS) if outcome else None

    def _transaction(self, params: list[Any]) -> dict[str, Any] | None:
        stored = self._node.storage.find(_signature(_text(params, 0, "signature")))
        if stored is None or stored.slot > self._chain.tip.slot:
            return None
        return shapes.transaction(stored)

    def _balance(self, params: list[Any]) -> Any:
        return self._at_tip(shapes.lamports(self._chain.wallets.get(_text(params, 0, "pubkey"), {})))

    def _token_accounts(self, params: list[Any]) -> Any:
        owner, wanted = _text(params, 0, "pubkey"), _options(params, 1)
        return self._at_tip(shapes.token_accounts(owner, self._chain.wallets.get(owner, {}), wanted.get("mint")))

    def _at_tip(self, value: Any) -> dict[str, Any]:
        return {"context": {"slot": self._chain.tip.slot}, "value": value}


def unhealthy() -> bytes:
    """The body of every answer during an outage."""
    return orjson.dumps(_failure(None, NODE_UNHEALTHY, "Node is unhealthy", {"numSlotsBehind": None}))


def _failure(request_id: Any, code: int, message: str, data: Any = None) -> dict[str, Any]:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "error": error, "id": request_id}


def _simulation_failed(reason: str, err: Any, logs: list[str]) -> RpcError:
    data = {"err": err, "logs": logs, "accounts": None, "unitsConsumed": 0, "returnData": None}
    return RpcError(PREFLIGHT_FAILURE, f"Transaction simulation failed: {reason}", data)


def _sends(request: Any) -> bool:
    return isinstance(request, dict) and request.get("method") == "sendTransaction"


def _id_of(request: Any) -> Any:
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def _text(params: list[Any], index: int, name: str) -> str:
    if len(params) <= index or not isinstance(params[index], str):
        raise RpcError(INVALID_PARAMS, f"Invalid params: {name} must be a string")
    text: str = params[index]
    return text


def _options(params: list[Any], index: int) -> dict[str, Any]:
    options = params[index] if len(params) > index else None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise RpcError(INVALID_PARAMS, "Invalid params: options must be an object")
    return options


def _signature(text: Any) -> str:
    try:
        if isinstance(text, str):
            Signature.from_string(text)
            return text
    except ValueError:
        pass
    raise RpcError(INVALID_PARAMS, "Invalid param: Invalid signature")
