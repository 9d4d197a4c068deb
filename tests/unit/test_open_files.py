"""How many files a process permits itself."""

import resource

import pytest

from libs.service.lifecycle import OPEN_FILES_WANTED, permit_open_files


class System:
    """One that permits so many, whatever it says is the most."""

    def __init__(self, soft: int, hard: int, permits: int) -> None:
        self.limits, self._permits = (soft, hard), permits

    def getrlimit(self, _which: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _which: int, limits: tuple[int, int]) -> None:
        if not 0 <= limits[0] <= self._permits:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "permits", "then"),
    [
        (1_024, 1_048_576, 1_048_576, OPEN_FILES_WANTED),
        (1_024, 4_096, 4_096, 4_096),
        (256, resource.RLIM_INFINITY, 10_240, 8_192),  # as a Mac
        (100_000, 1_048_576, 1_048_576, 100_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10_240, resource.RLIM_INFINITY),
        (256, resource.RLIM_INFINITY, 256, 256),
    ],
)
def test_a_process_permits_itself_about_as_many_as_the_system_does(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, permits: int, then: int
) -> None:
    system = System(soft, hard, permits)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    permit_open_files()
    assert system.limits == (then, hard)
