"""Which processes `make run` has, and who of them ends with whom."""

import errno

import pytest

from deploy.local import roster
from deploy.local.ports import Claims
from deploy.local.roster import Service, choose_ports, own_environment, services, stop_stages, told_to
from libs.service.settings import ConfigurationError, load_settings


def test_what_takes_orders_ends_first_and_the_world_outside_last() -> None:
    stages = stop_stages(services(load_settings(environ={"ROUTERS": "2"})))
    assert stages == [["gateway"], ["notifier", "router", "router-2", "executor"], ["projector"], ["localnet"]]


def test_those_go_first_for_whom_a_client_waits() -> None:
    nice = {service.name: service.nice for service in services(load_settings(environ={}))}
    assert nice["gateway"] == nice["notifier"] == 0 < nice["router"] == nice["executor"] < nice["projector"]


def test_every_process_is_stopped_whatever_the_roster() -> None:
    roster = [Service("localnet", ("true",)), Service("something", ("true",), 2)]
    assert stop_stages(roster) == [["something", "something-2"], ["localnet"]]


def test_a_process_is_told_no_secret_it_has_no_need_of() -> None:
    # The address of a store may hold a password.
    secrets = {"JWT_SECRET": "a", "JWT_SECRETS_OLD": "b", "WALLET_SECRET": "c", "DATABASE_URL": "p", "REDIS_URL": "r"}
    shared = {**secrets, "DATA_DIR": "d", "LOG_LEVEL": "info"}
    told = {
        name: {*secrets.values()} & {*own_environment(shared, name, "127.0.0.1", 1).values()}
        for service in services(load_settings(environ={"GATEWAYS": "2", "EXECUTORS": "2"}))
        for name in service.names
    }
    assert told == {
        "gateway": {"a", "b", "p", "r"},
        "gateway-2": {"a", "b", "p", "r"},
        "notifier": {"a", "b", "p", "r"},
        "router": {"r"},
        "executor": {"c", "r"},
        "executor-2": {"c", "r"},
        "projector": {"p", "r"},
        "localnet": set(),
    }
    assert told_to("migrate", shared).keys() & secrets.keys() == {"DATABASE_URL"}
    for none in ("redis", "postgres", "fork-server"):
        assert not told_to(none, shared).keys() & secrets.keys()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
@pytest.mark.parametrize("port", ["0", "8080"])
@pytest.mark.parametrize("variable", ["HOST", "ADMIN_HOST"])
def test_a_host_that_is_not_this_machine_is_not_told_as_a_port_that_is_taken(
    variable: str, host: str, port: str
) -> None:
    env = {variable: host, "PORT": port}
    with (
        Claims() as claimed,
        pytest.raises(ConfigurationError, match=f"^{variable} is not usable: cannot listen on {host}: "),
    ):
        choose_ports(load_settings(environ=env), env, claimed)


def test_a_port_that_may_not_be_used_is_not_told_as_one_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def privileged(_host: str, port: int) -> OSError | None:
        return PermissionError(errno.EACCES, "Permission denied") if port == 80 else None

    monkeypatch.setattr(roster, "trouble_at", privileged)
    env = {"PORT": "80"}
    with (
        Claims() as claimed,
        pytest.raises(ConfigurationError, match=r"^port 80 cannot be used: Permission denied, or set"),
    ):
        choose_ports(load_settings(environ=env), env, claimed)
