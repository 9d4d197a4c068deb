"""The environment is checked once, and what is wrong with it is one line that names the variable."""

import pytest

from libs.service.settings import ConfigurationError, Settings, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_redis_is_found_by_host_and_port_or_by_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("REDIS_PORT", "7000")
    assert load_settings().redis() == "redis://cache:7000/0"
    monkeypatch.setenv("REDIS_URL", "unix:///run/redis?db=0")
    assert load_settings().redis() == "unix:///run/redis?db=0"


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1000")
    monkeypatch.setenv("ROUTERS", "3")
    settings = load_settings(environ={"PORT": "2000", "UNKNOWN": "1"})
    assert (settings.port, settings.routers) == (2000, 3)


def test_an_empty_value_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("ROUTERS", "3")
    settings = load_settings(environ={"ROUTERS": ""})
    assert (settings.port, settings.routers) == (8080, 1)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("PORT", "many", "PORT is not usable: "),
        ("PORT", "70000", "PORT is not usable: "),
        ("REDIS_URL", "http://cache", "REDIS_URL is not usable: the URL must start with redis:// or "),
        ("REDIS_URL", "postgresql://cache", "REDIS_URL is not usable: .*redis://"),
        ("DATABASE_URL", "redis://cache", "DATABASE_URL is not usable: .*postgresql://"),
        ("SWAPLOG_STORES", "attic", "SWAPLOG_STORES is not usable: "),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is not usable: "),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=line) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_missing_secret_is_named_with_what_it_is_for() -> None:
    with pytest.raises(ConfigurationError, match="JWT_SECRET is not set: signs access tokens"):
        load_settings("database_url", "jwt_secret", environ={"DATABASE_URL": "postgresql://here/x"})


def test_secrets_do_not_show() -> None:
    settings = load_settings(environ={"JWT_SECRET": "do-not-show-this"})
    assert "do-not-show-this" not in f"{settings!r} {settings.model_dump()}"


def test_venues_are_pairs_in_their_order() -> None:
    settings = load_settings(environ={"VENUES": "b=http://b/, a=http://a"})
    assert list(settings.venue_urls().items()) == [("b", "http://b"), ("a", "http://a")]


def test_venues_without_an_address_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"VENUES is not usable.*name=http://address"):
        load_settings(environ={"VENUES": "raydium"})
