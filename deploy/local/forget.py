"""`make clean-data`: a stack's data folder removed, with what Postgres may keep elsewhere for it."""

import shutil
import sys
from pathlib import Path

from deploy.local.folders import Folders, Held, locked, make_folders, remove_runtime
from deploy.local.postgres_server import made_for
from libs.service.settings import EXIT_USAGE, ConfigurationError, load_settings


def forget(data_dir: Path) -> str:
    """Remove it; gives what was done, in a line.

    Raises:
        ConfigurationError: a stack runs on it, or it is not a stack's data folder.
    """
    if not data_dir.exists():
        return "nothing to remove"
    if not data_dir.is_dir():
        raise ConfigurationError(f"{data_dir} is no folder: not removed")
    if any(data_dir.iterdir()) and not (data_dir / "secrets.json").exists():
        raise ConfigurationError(f"{data_dir} does not look like a stack's data (no secrets.json): not removed")
    folders = make_folders(data_dir)
    left = ""
    try:
        with locked(folders.lock):
            if (link := folders.data / "postgres").is_symlink():
                left = _forget_elsewhere(folders, link.resolve())
            remove_runtime(folders)
            shutil.rmtree(folders.data)
    except Held:
        raise ConfigurationError(f"a stack runs on {folders.data}: stop it first") from None
    except OSError as error:  # files of somebody else
        raise ConfigurationError(f"cannot remove {error.filename}: {error.strerror}") from None
    return f"removed {folders.data}{left}"


def _forget_elsewhere(folders: Folders, home: Path) -> str:
    """Files that are another folder's, of which this one is a copy, stay; gives that in words."""
    if not made_for(folders, home):
        return f"; {home} may be another data folder's, and is left"
    if home.exists():
        with locked(home, folder=True):
            shutil.rmtree(home)
    return ""


def main() -> int:
    try:
        done = forget(load_settings().data_dir)
    except ConfigurationError as error:
        sys.stderr.write(f"swaplog: {error}\n")
        return EXIT_USAGE
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
