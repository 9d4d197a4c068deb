"""What tests of whole programs share."""

import pytest

from tests.servers import flush_redis


@pytest.fixture
def log_url(redis_url: str) -> str:
    flush_redis(redis_url)
    return redis_url
