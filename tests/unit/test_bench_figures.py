"""The arithmetic of the bench, which nobody would notice to be wrong."""

import json
import os
from pathlib import Path

import pytest

from libs.service.settings import ConfigurationError
from tests.bench.__main__ import lost
from tests.bench.client import NotHttp, read_answer, request_bytes
from tests.bench.figures import latencies_ms, medians, percentile, ratios, schedule
from tests.bench.target import running_stack
from tests.bench.users import TRADES, User, orders_of
from tests.bench.watch import read_frames

PID_OF_NOBODY = 2**22 + 1  # beyond what Linux hands out


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_latencies_are_told_in_milliseconds() -> None:
    assert latencies_ms([0.002, 0.001, 0.003]) == {"count": 3, "p50": 2, "p95": 3, "p99": 3, "max": 3}
    assert latencies_ms([]) == {"count": 0}


def test_an_open_loop_is_fixed_before_it_begins() -> None:
    assert schedule(4, 1) == [0, 0.25, 0.5, 0.75]
    assert len(schedule(30, 0.1)) == 3
    with pytest.raises(ValueError, match="positive"):
        schedule(0, 1)


def test_medians_and_ratios_are_taken_figure_by_figure() -> None:
    runs = [{"a": {"b": value}, "name": "x"} for value in (3, 1, 2)]
    assert medians(runs) == {"a": {"b": 2}, "name": "x"}
    assert ratios({"a": {"b": 3}, "c": 1}, {"a": {"b": 2}, "d": 1}) == {"a.b": (3, 2, 1.5)}


def test_answers_are_read_whole_or_not_at_all() -> None:
    whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
    assert read_answer(whole + b"HTTP") == ((202, b"{}"), len(whole))
    assert all(read_answer(whole[:size]) is None for size in range(len(whole)))
    with pytest.raises(NotHttp):
        read_answer(b"SSH-2.0\r\n\r\n")
    assert request_bytes("h", "POST", "/p", b"{}", "t").endswith(b"Content-Length: 2\r\n\r\n{}")


def test_frames_are_read_whole_or_kept() -> None:
    short, long = b"\x81\x02hi", b"\x81\x7e\x01\x00" + b"x" * 256
    assert read_frames(short + long + short[:1]) == ([(1, b"hi"), (1, b"x" * 256)], short[:1])


def test_every_user_sends_every_trade_in_turn() -> None:
    users = [User("", tuple(f"{name}{trade}".encode() for trade in range(len(TRADES)))) for name in "ab"]
    sent = orders_of(users, 2 * len(TRADES) + 1)
    assert sent[:4] == [b"a0", b"b0", b"a1", b"b1"]
    assert len(set(sent)) == 2 * len(TRADES)


def test_figures_that_lack_an_order_are_called_so() -> None:
    whole = {"orders": 2, "accepted": 2, "not_ended": 0, "trouble": ""}
    assert lost({"throughput_runs": [whole], "latency": whole}) == []
    assert lost({"throughput_runs": [{**whole, "not_ended": 1, "trouble": "late"}], "latency": whole}) == [
        "0 orders not accepted, 1 not ended. late"
    ]


def test_a_stack_that_is_gone_or_elsewhere_is_not_measured(tmp_path: Path) -> None:
    state = {"redis_url": "", "database_url": "", "pids": {"gateway": 1}, "supervisor": os.getpid()}
    assert running_stack(tmp_path) is None
    write = (tmp_path / "stack.json").write_text
    write(json.dumps({**state, "base_url": "http://127.0.0.1:80"}))
    found = running_stack(tmp_path)
    assert found
    assert found.pids == {"gateway": 1}
    write(json.dumps({**state, "base_url": "http://127.0.0.1:80", "supervisor": PID_OF_NOBODY}))
    assert running_stack(tmp_path) is None
    for unusable in ("{}", "nonsense", json.dumps({**state, "base_url": "http://192.0.2.1:80"})):
        write(unusable)
        with pytest.raises(ConfigurationError):
            running_stack(tmp_path)
