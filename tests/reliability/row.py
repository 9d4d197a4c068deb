"""One line of the matrix, and where its tests are."""

from dataclasses import dataclass

FAULT, CONTRACT = "tests/fault/", "tests/contract/"
LOSS, PROXY, POISON = FAULT + "test_loss.py::", FAULT + "test_proxy.py::", FAULT + "test_poison.py::"
AWAY = FAULT + "test_stores_away.py::"
HALVES, DEMOTED = FAULT + "test_half_transactions.py::", FAULT + "test_demoted.py::"
STANDBY = CONTRACT + "test_projector_standby.py::"
FILES, PROJECTOR = FAULT + "test_redis_files.py::", CONTRACT + "test_projector.py::"
REPAIR, WORK = CONTRACT + "test_repair.py::", CONTRACT + "test_event_log_work.py::"
MEANWHILE = CONTRACT + "test_repair_meanwhile.py::"
SOCKET = CONTRACT + "test_websocket.py::"


@dataclass(frozen=True)
class Row:
    """`tests`: of each, every parametrization counts."""

    fault: str
    invariant: str
    tests: tuple[str, ...]
