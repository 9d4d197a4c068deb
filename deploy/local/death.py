"""Processes that do not outlive who started them: on Linux the kernel sees to it."""

import ctypes
import os
import sys
from functools import cache

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, number: int) -> None:
    """Called in a child: have it sent signal `number` when its parent dies. Elsewhere than on Linux nothing happens."""
    if sys.platform != "linux":
        return
    libc().prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)


@cache
def libc() -> ctypes.CDLL:
    """Loaded before a fork, so that a child need not."""
    return ctypes.CDLL(None)
