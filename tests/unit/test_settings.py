"""The environment is checked once, and what is wrong with it is one line that names the variable."""

from pathlib import Path

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


@pytest.mark.parametrize("host", ["::1", "fe80::1%lo"])
def test_redis_may_be_at_an_address_of_ipv6(host: str) -> None:
    assert load_settings(environ={"REDIS_HOST": host}).redis() == f"redis://[{host}]:6379/0"


def test_ports_of_several_hosts_and_of_none_are_fine() -> None:
    for url in ("postgresql://me:a,b@[::1]:1,two:2/x", "postgresql:///x?host=/run", "postgresql://%2Frun/x"):
        assert load_settings(environ={"DATABASE_URL": url}).database_url == url


def test_a_password_that_was_taken_for_a_port_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not usable") as caught:
        load_settings(environ={"DATABASE_URL": "postgresql://me:hush/hush@there/x"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("PORT", "many", "PORT is not usable: "),
        ("PORT", "70000", "PORT is not usable: "),
        ("REDIS_URL", "http://cache", "REDIS_URL is not usable: the URL must start with redis:// or "),
        ("REDIS_URL", "postgresql://cache", "REDIS_URL is not usable: .*redis://"),
        ("DATABASE_URL", "redis://cache", "DATABASE_URL is not usable: .*postgresql://"),
        ("REDIS_URL", "redis://cache:many", "REDIS_URL is not usable: its host and port cannot be read"),
        ("REDIS_URL", "redis://cache:70000/0", "REDIS_URL is not usable: "),
        ("REDIS_URL", "redis://one:1,two:2/0", "REDIS_URL is not usable: "),
        ("DATABASE_URL", "postgresql://one:1,two:many/x", "DATABASE_URL is not usable: "),
        ("REDIS_HOST", "cache:6379", "REDIS_HOST is not usable: it must be a host alone"),
        ("DATA_DIR", "~nobody-by-that-name/x", "DATA_DIR is not usable: .*~nobody-by-that-name"),
        ("SESSION_S", str(10**12), "SESSION_S is not usable: "),
        ("CHAIN_RPC_URL", "127.0.0.1:8899", "CHAIN_RPC_URL is not usable: it is not of the form http://"),
        ("NOTIFIER_URL", "http://notifier:many", "NOTIFIER_URL is not usable: it is not of the form http://"),
        ("VENUES", "raydium=http://", "VENUES is not usable: 'raydium=http://' is not of the form"),
        ("VENUES", "raydium=http://[x", "VENUES is not usable: .*is not of the form"),
        ("VENUES", ",", "VENUES is not usable: it names no venue"),
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


@pytest.mark.parametrize("mark", "/?#")
@pytest.mark.parametrize(("variable", "scheme"), [("REDIS_URL", "redis"), ("DATABASE_URL", "postgresql")])
def test_a_password_that_cuts_its_url_short_is_told_without_it(variable: str, scheme: str, mark: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is not usable: .*%23") as caught:
        load_settings(environ={variable: f"{scheme}://me:hush{mark}hush@there:1/0"})
    assert "hush" not in str(caught.value)


def test_an_at_sign_in_the_password_of_a_database_is_told_without_it() -> None:
    """Its driver takes what follows for the host."""
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL is not usable: .*%40") as caught:
        load_settings(environ={"DATABASE_URL": "postgresql://me:hush@hush:hush@there:1/x"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("REDIS_URL", "redis://:p%23w@[::1]:6379/0"),
        ("REDIS_URL", "redis://:p@ss@cache:6379/0"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "rediss://cache"),
        ("DATABASE_URL", "postgresql://me:p%40ss@one:5432,two/x"),
        ("DATABASE_URL", "postgresql://me@%2Frun%2Fpg/x"),
        ("DATABASE_URL", "postgres:///x?host=/run/pg&port=5433"),
    ],
)
def test_stores_may_be_named_in_every_way_their_clients_know(variable: str, url: str) -> None:
    assert getattr(load_settings(environ={variable: url}), variable.lower()) == url


def test_a_missing_secret_is_named_with_what_it_is_for() -> None:
    with pytest.raises(ConfigurationError, match="JWT_SECRET is not set: signs access tokens"):
        load_settings("database_url", "jwt_secret", environ={"DATABASE_URL": "postgresql://here/x"})


def test_whoever_reads_the_data_folder_takes_a_tilde_for_the_same_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load_settings(environ={"DATA_DIR": "~/swaplog"}).data_dir == Path("/home/ada/swaplog")


def test_secrets_do_not_show() -> None:
    settings = load_settings(environ={"JWT_SECRET": "do-not-show-this"})
    assert "do-not-show-this" not in f"{settings!r} {settings.model_dump()}"


def test_venues_are_pairs_in_their_order() -> None:
    settings = load_settings(environ={"VENUES": "b=http://b/, a=http://a"})
    assert list(settings.venue_urls().items()) == [("b", "http://b"), ("a", "http://a")]


def test_venues_without_an_address_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"VENUES is not usable.*name=http://address"):
        load_settings(environ={"VENUES": "raydium"})
