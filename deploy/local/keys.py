"""Secrets of a stack on one machine: given in the environment, else made once and kept in the data folder.

For containers: `python -m deploy.local.keys FILE` writes them as an env file.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_urlsafe

from libs.service.settings import ConfigurationError

JWT_SECRET_BYTES = 48
PASSWORD_BYTES = 24


def _new_wallet() -> str:
    """An ed25519 key pair, 64 bytes in base58: what Solana's tools take."""
    from solders.keypair import Keypair  # noqa: PLC0415 - slow to load, and needed by the first start only

    return str(Keypair())


MAKERS: dict[str, Callable[[], str]] = {
    "JWT_SECRET": lambda: token_urlsafe(JWT_SECRET_BYTES),
    "WALLET_SECRET": _new_wallet,
}
PASSWORDS: dict[str, Callable[[], str]] = {
    name: lambda: token_urlsafe(PASSWORD_BYTES) for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD")
}


def load_or_make_keys(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Every secret by its variable. The file (mode 0600) is written when one is missing there and not given, and when
    there is none: by it a data folder is known.

    Raises:
        ConfigurationError: the file is not what was written.
    """
    kept = _read(path)
    missing = {name: make() for name, make in MAKERS.items() if not environ.get(name) and name not in kept}
    if missing or not path.exists():
        kept |= missing
        write_private(path, json.dumps(kept, indent=2) + "\n")
    return {name: environ.get(name) or kept[name] for name in MAKERS}


def make_env_file(path: Path) -> list[str]:
    """Write the secrets compose needs; what the file says already stays. Gives the names of those that were made."""
    before = path.read_text() if path.exists() else ""
    named = {line.partition("=")[0].strip() for line in before.splitlines()}
    missing = {name: make() for name, make in {**MAKERS, **PASSWORDS}.items() if name not in named}
    if missing:
        begun = before if before.endswith("\n") or not before else f"{before}\n"
        write_private(path, begun + "".join(f"{name}={value}\n" for name, value in missing.items()))
    return list(missing)


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise ConfigurationError(f"{path} is damaged: mend it, or move it away to get new secrets")
    return kept


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; only we may read it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


if __name__ == "__main__":
    made = make_env_file(Path(sys.argv[1]))
    sys.stdout.write(f"secrets are in {sys.argv[1]}; made: {', '.join(made) or 'none, all were there'}\n")
