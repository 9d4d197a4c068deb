"""The arithmetic of the bench, which nobody would notice to be wrong."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from libs.service.settings import ConfigurationError
from tests.bench.beside import compared, read_pids
from tests.bench.client import NotHttp, read_answer, request_bytes
from tests.bench.figures import curve_ms, latencies_ms, medians, percentile, ratios, schedule
from tests.bench.picture import draw, even_ticks, log_ticks, percent
from tests.bench.target import running_stack
from tests.bench.trust import distrusted
from tests.bench.users import TRADES, Crowd, Place, User, sizes
from tests.bench.watch import Watch, read_frames

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


def test_a_curve_rises_to_the_slowest() -> None:
    curve = curve_ms([number / 1_000 for number in range(1, 1_001)])
    assert curve[0] == (0, 1)
    assert (99.9, 999) in curve
    assert curve == sorted(curve)
    assert curve_ms([]) == []


def test_pictures_show_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    sized = {"accepted_per_s": 200, "completed_per_s": 100, "cpu_ms_per_order": {"router": 1, "total": 3, "redis": 2}}
    curves = {"to 202": [(0, 1), (50, 2), (99.9, 30)], "to CONFIRMED": []}
    figures = {
        "at": "now",
        "always": {"latency": {"rate_per_s": 20, "curves": curves}, "throughput": sized, "batches": {"100": sized}},
        "everysec": {"throughput": sized},
    }
    drawn = draw(figures, tmp_path / "pictures")
    assert sorted(path.name for path in drawn) == ["batches-always.svg", "cpu-always.svg", "latency-always.svg"]
    for path in drawn:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    latency = (tmp_path / "pictures" / "latency-always.svg").read_text()
    assert "to 202" in latency
    assert "to CONFIRMED" not in latency
    bars = (tmp_path / "pictures" / "cpu-always.svg").read_text()
    assert ">3.00<" in bars
    assert bars.count("<rect") == 1 + 2 * 2 + 2


def test_scales_hold_everything() -> None:
    assert even_ticks(7.5) == [0, 2, 4, 6, 8]
    assert even_ticks(0)[0] == 0
    assert log_ticks({"a": [(0, 3), (1, 250)]}, 250) == [1, 10, 100, 1_000]
    assert log_ticks({"a": [(0, 10)]}, 10) == [10, 100]
    assert percent(0) == 0
    assert percent(99) == pytest.approx(2)


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
    sent = [request.data for request in Crowd(Place("h", 1), users).requests(2 * len(TRADES) + 1)]
    assert sent[:4] == [b"a0", b"b0", b"a1", b"b1"]
    assert len(set(sent)) == 2 * len(TRADES)


def test_batches_carry_every_order_once() -> None:
    assert list(sizes(7, 3)) == [3, 3, 1]
    assert list(sizes(6, 3)) == [3, 3]
    requests = Crowd(Place("h", 1), [User("t", ()), User("u", ())]).requests(7, 3)
    assert [(request.owner, request.orders) for request in requests] == [(0, 3), (1, 3), (0, 1)]
    assert [request.data.count(b"tokenIn") for request in requests] == [3, 3, 1]


def test_what_was_said_of_an_end_counts_once_wherever_it_stands() -> None:
    watch = Watch()
    watch.said(b'{"type":"snapshot","orders":[{"orderId":"a","status":"FAILED"},{"orderId":"b","status":"ROUTING"}]}')
    watch.said(b'{"orderId":"b","status":"CONFIRMED"}')
    watch.said(b'{"orderId":"c","status":"BUILDING"}')
    assert {order_id: end.status for order_id, end in watch.ends.items()} == {"a": "FAILED", "b": "CONFIRMED"}
    assert watch.messages == 3


def test_figures_that_lack_an_order_are_called_so() -> None:
    whole = {"orders": 2, "accepted": 2, "not_ended": 0, "trouble": "", "refused": {}, "generator_cores": 0.2}
    assert list(distrusted({"always": {"throughput": {**whole, "runs": [whole]}}})) == []
    lost = {**whole, "accepted": 1, "refused": {"HTTP 503": 1}, "not_ended": 1, "trouble": "late"}
    assert list(distrusted({"always": {"throughput": {**whole, "runs": [lost]}}})) == [
        "always.throughput.runs.0: 1 orders not accepted: {'HTTP 503': 1}",
        "always.throughput.runs.0: 1 orders not ended",
        "always.throughput.runs.0: late",
    ]


def test_a_busy_generator_or_a_restarted_process_spoils_the_figures() -> None:
    assert list(distrusted({"latency": {"generator_cores": 0.95}})) == [
        "latency: the generator was busy with itself (0.95 of a core)"
    ]
    assert list(distrusted({"always": {"restarts": {"router": 1}}})) == [
        "always: processes were started again: {'router': 1}"
    ]


def test_ours_is_told_as_a_multiple_of_theirs() -> None:
    closed = {"accepted_per_s": 200, "completed_per_s": 100, "cpu_ms_per_order": {"total": 1.0}}
    opened = {kind: {"p50": 2, "p95": 4, "p99": 8} for kind in ("post_ms", "confirmed_ms")}
    theirs = {"accepted_per_s": 100, "completed_per_s": 50, "cpu_ms_per_order": {"total": 4.0}}
    found = compared({
        "throughput": {"ours": closed, "ours_in_batches": closed, "theirs": theirs},
        "latency": {"ours": opened, "ours_one_socket_per_user": opened, "theirs": opened},
    })  # fmt: skip
    assert found["ours completed_per_s"] == 2
    assert found["ours cpu_per_order"] == 0.25
    assert found["ours confirmed_ms p99"] == 1
    assert read_pids("api=1,worker1=2") == {"api": 1, "worker1": 2}
    with pytest.raises(ConfigurationError):
        read_pids("1,2")


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
