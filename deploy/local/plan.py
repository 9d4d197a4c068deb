"""What both stores have in common: the rungs to try, the plan to get one, and the wait until it answers."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.binaries import Rung
from deploy.local.processes import Command, Process, how_it_ended
from libs.service.settings import ConfigurationError

RUNGS: tuple[Rung, ...] = ("url", "path", "wheel", "docker")

READY_POLL_S = 0.02
READY_WITHIN_S = 120  # a long append-only file or a crash recovery is read before the first answer
REACH_WITHIN_S = 5
FOLDER_FREE_WITHIN_S = 20

URL_PASSWORD = re.compile(r"((?<=://)[^/@\s:]*:)[^/\s]+(?=@)|((?<=[?&])password=)[^&\s]+")


class NotReachable(Exception):
    """The store does not answer yet, or not at all; the text says why."""


class NoRung(ConfigurationError):
    """No rung of the ladder is there on this machine."""


def in_short(error: BaseException) -> str:
    """Why something cannot be reached: in the system's words where it is the system that says so."""
    chain = (error, error.__cause__, error.__context__)
    numbers = (one.errno for one in chain if isinstance(one, OSError) and one.errno)
    number = next(numbers, 0)
    return os.strerror(number) if number > 0 else str(error) or type(error).__name__


Check = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Plan:
    """How to get one store. `command` is None when somebody else runs it.

    `check` gives the server's product and version once it is usable at `url`.

    Raises:
        NotReachable: from `check`, as long as it is not.
    """

    name: str
    url: str
    rung: Rung
    command: Command | None
    check: Check


def rungs_to_try(environ: Mapping[str, str], name: str, urls: tuple[str, ...]) -> set[Rung]:
    """The rungs the environment leaves open for one store; `urls` are the variables that name one.

    Raises:
        ConfigurationError: SWAPLOG_STORES names no rung, or "url" and there is none.
    """
    forced = environ.get("SWAPLOG_STORES", "")
    given = any(environ.get(variable) for variable in urls)
    if not forced:
        return {"url"} if given else {"path", "wheel"}
    for rung in RUNGS:
        if rung == forced:
            if rung == "url" and not given:
                raise ConfigurationError(f"SWAPLOG_STORES is url, but {' or '.join(urls)} is not set for {name}")
            return {rung}
    raise ConfigurationError(f"SWAPLOG_STORES is {forced!r}: it must be one of {', '.join(RUNGS)}")


def without_password(url: str) -> str:
    return URL_PASSWORD.sub(r"\1\2***", url)


async def check_given(plan: Plan, variable: str) -> str:
    """One look at a store we did not start.

    Raises:
        ConfigurationError: it cannot be used; one line.
    """
    try:
        return await asyncio.wait_for(plan.check(), REACH_WITHIN_S)
    except NotReachable as error:
        reason = str(error)
    except TimeoutError:
        reason = f"no answer within {REACH_WITHIN_S} s"
    raise ConfigurationError(f"{variable}: cannot use {without_password(plan.url)}: {reason}")


async def answers(plan: Plan, process: Process | None) -> str:
    """Wait until the store is usable; gives product and version.

    Raises:
        ConfigurationError: the process ended, or does not answer in time.
    """
    if process is None:
        return await check_given(plan, plan.name)
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while True:
        try:
            return await plan.check()
        except NotReachable as error:
            if not process.running:
                ended = how_it_ended(await process.exited())
                raise ConfigurationError(f"{plan.name} {ended} at start: {process.last_line()}") from None
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigurationError(f"{plan.name} does not answer: {error}") from None
        await asyncio.sleep(READY_POLL_S)


def no_rung(name: str, rungs: set[Rung], wants: str, variable: str, package: str) -> NoRung:
    """The one line for a machine that has nothing."""
    tried = " or ".join(sorted(rungs))
    return NoRung(f"no {wants} found for {name} (tried: {tried}): set {variable}, install it, or pip install {package}")


def refuse_other_product(folder: Path, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} was written by {found}, which is not here any more: install it, or move the folder away"
    )
