"""Where a command goes on a cluster, and how a node is reached."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.events.redis_nodes import key_of
from libs.events.redis_slots import url_of_node


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["HGETALL", "k"], "k"),
        (["EVALSHA", "digest", 2, "k", "other"], "k"),
        (["XGROUP", "CREATE", "k", "group"], "k"),
        (["XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 5, "STREAMS", "k", ">"], "k"),
        (["SCAN", "0", "MATCH", "orders:{t}:*"], "orders:{t}:*"),
        (["TIME"], None),
    ],
)
def test_a_command_goes_where_its_first_key_is(command: list[Any], key: str | None) -> None:
    assert key_of(command) == key


@pytest.mark.parametrize(
    ("url", "host", "reached"),
    [
        ("redis://any:1/0", "10.0.0.2", "redis://10.0.0.2:7000/0"),
        ("rediss://who:secret@any:1/0?ssl_cert_reqs=none", "two", "rediss://who:secret@two:7000/0?ssl_cert_reqs=none"),
        ("redis://any/0", "::1", "redis://[::1]:7000/0"),
        ("unix:///run/socket?db=0", "127.0.0.1", "redis://127.0.0.1:7000?db=0"),
    ],
)
def test_a_node_is_reached_as_the_url_says(url: str, host: str, reached: str) -> None:
    assert url_of_node(urlsplit(url), host, 7000) == reached
