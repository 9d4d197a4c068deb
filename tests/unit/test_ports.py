"""A port that was promised is kept for whom it was promised to."""

import socket

import pytest

from deploy.local import ports
from deploy.local.ports import Claims

HOST = "127.0.0.1"


@pytest.mark.skipif(not ports.CAN_HOLD, reason="ports are held on Linux only")
def test_a_claimed_port_is_given_to_nobody_else_until_the_claim_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with Claims() as mine:
        port = mine.free(HOST)
        monkeypatch.setattr(ports, "FREE_FROM", port)
        monkeypatch.setattr(ports, "FREE_TO", port + 1)
        with Claims() as others, pytest.raises(RuntimeError, match="no free port"):
            others.free(HOST)
    with Claims() as others:
        assert others.free(HOST) == port


def test_who_it_was_promised_to_may_listen_there_and_again() -> None:
    with Claims() as claimed:
        port = claimed.free(HOST)
        for _ in range(2):
            with socket.create_server((HOST, port)), socket.create_connection((HOST, port)):
                pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))


def test_a_port_where_somebody_listens_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert ports.trouble_at(HOST, server.getsockname()[1])
    assert not ports.trouble_at(HOST, 0)
