"""Passwords."""

import asyncio
import base64
import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import bcrypt

from services.gateway import limits


class Busy(Exception):
    """Too many passwords are waiting to be checked."""


class Passwords:
    """bcrypt in a few threads of its own: it lets go of the interpreter while it works, the event loop goes on."""

    def __init__(self, rounds: int = limits.BCRYPT_ROUNDS) -> None:
        self._rounds = rounds
        self._threads = ThreadPoolExecutor(limits.PASSWORD_THREADS, thread_name_prefix="bcrypt")
        self._waiting = 0
        # Compared against when there is no such account, so that the answer takes as long as for a wrong password.
        self._nobody = _hash(os.urandom(16).hex(), rounds)

    async def hash(self, password: str) -> str:
        """A salted hash to keep.

        Raises:
            Busy
        """
        self._enter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _hash, password, self._rounds)
        finally:
            self._waiting -= 1

    async def check(self, password: str, kept: str | None) -> bool:
        """Whether it is the password of `kept`; None is nobody's hash, and takes as long to refuse.

        Raises:
            Busy
        """
        self._enter()
        try:
            loop = asyncio.get_running_loop()
            same = await loop.run_in_executor(self._threads, _check, password, kept or self._nobody)
        finally:
            self._waiting -= 1
        return same and kept is not None

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self) -> None:
        if self._waiting >= limits.PASSWORDS_WAITING_MAX:
            raise Busy
        self._waiting += 1


def _digest(password: str) -> bytes:
    # bcrypt sees 72 bytes and stops at a zero byte; the digest in base64 has 44 and none, so no password is cut short.
    return base64.b64encode(sha256(password.encode()).digest())


def _hash(password: str, rounds: int) -> str:
    return bcrypt.hashpw(_digest(password), bcrypt.gensalt(rounds)).decode()


def _check(password: str, kept: str) -> bool:
    return bcrypt.checkpw(_digest(password), kept.encode())
