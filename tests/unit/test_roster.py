"""Which processes `make run` has, and who of them ends with whom."""

from deploy.local.roster import Service, services, stop_stages
from libs.service.settings import load_settings


def test_what_takes_orders_ends_first_and_the_world_outside_last() -> None:
    stages = stop_stages(services(load_settings(environ={"ROUTERS": "2"})))
    assert stages == [["gateway"], ["notifier", "router", "router-2", "executor"], ["projector"], ["localnet"]]


def test_those_go_first_for_whom_a_client_waits() -> None:
    nice = {service.name: service.nice for service in services(load_settings(environ={}))}
    assert nice["gateway"] == nice["notifier"] == 0 < nice["router"] == nice["executor"] < nice["projector"]


def test_every_process_is_stopped_whatever_the_roster() -> None:
    roster = [Service("localnet", ("true",)), Service("something", ("true",), 2)]
    assert stop_stages(roster) == [["something", "something-2"], ["localnet"]]
