"""What a node says, read: whatever is not as agreed proves nothing."""

import re
from typing import Any

import orjson

from services.executor.domain import NUMBER_MAX, Commitment, Look, TxStatus
from services.executor.rpc import ChainUnavailable, Results, RpcRefused

MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
_ERROR_NAME = re.compile(r"[A-Z][A-Za-z]+")
_COMMITMENTS: dict[object, Commitment] = {
    None: "processed",
    "processed": "processed",
    "confirmed": "confirmed",
    "finalized": "finalized",
}


def valid_at(valid: Any, slot: int) -> bool | None:
    """What a node says of a blockhash; None: nothing that counts at this slot."""
    try:
        seen, holds = valid["context"]["slot"], valid["value"]
        # Another node may have answered, and one that is behind does not know the newest blocks.
        return holds if isinstance(holds, bool) and (holds or seen >= slot) else None
    except MALFORMED:
        return None


def looks_of(answers: Results, count: int) -> list[Look]:
    """What the chain knows of so many signatures. Raises ChainUnavailable: it does not say."""
    try:
        return looks_at(answers[0], count)
    except MALFORMED as error:
        why = answers[0] if isinstance(answers[0], RpcRefused) else error
        raise ChainUnavailable(f"getSignatureStatuses: {why}") from error


def looks_at(answer: Any, count: int) -> list[Look]:
    """The same of one answer. Raises one of MALFORMED."""
    slot, statuses = _slot(answer["context"]["slot"]), answer["value"]
    if len(statuses) != count:
        raise ValueError(f"{len(statuses)} statuses for {count} signatures")
    return [_look(slot, value) for value in statuses]


def _look(slot: int, value: Any) -> Look:
    try:
        return Look(slot, _status(value))
    except MALFORMED:
        return Look(-1, None)  # from before every height: others' are as good as ever, and this one proves nothing


def meta_of(signature: str, answer: Any) -> dict[str, Any] | None:
    """The `meta` of a transaction that took place; None if it is not shown, or another is, or one that failed."""
    try:
        signed, meta = answer.get("transaction"), answer["meta"]
        is_it = signed is None or signed["signatures"][0] == signature
        return meta if is_it and meta.get("err") is None and isinstance(meta, dict) else None
    except MALFORMED:
        return None


def _status(value: Any) -> TxStatus | None:
    if value is None:
        return None
    return TxStatus(_slot(value["slot"]), _COMMITMENTS[value.get("confirmationStatus")], _error(value["err"]))


def _slot(said: Any) -> int:
    if type(said) is not int or not 0 <= said <= NUMBER_MAX:
        raise ValueError("no slot")
    return said


def _error(said: Any) -> Any:
    """None, or what the chain says of a transaction that failed: a name as `AccountInUse`, or one with its details."""
    name = next(iter(said)) if isinstance(said, dict) and len(said) == 1 else said
    if said is not None and not (isinstance(name, str) and _ERROR_NAME.fullmatch(name)):
        raise ValueError("no error of a transaction")
    orjson.dumps(said)  # it will be shown: TypeError where that goes too deep
    return said
