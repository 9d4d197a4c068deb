"""`make clean-data`: a stack's data folder removed, with what Postgres may keep elsewhere for it."""

import shutil
import sys
from pathlib import Path

from deploy.local.folders import Held, locked, make_folders, remove_runtime
from libs.service.settings import EXIT_USAGE, ConfigurationError, load_settings


def forget(data_dir: Path) -> Path | None:
    """Remove it; gives the folder, or None if there was none.

    Raises:
        ConfigurationError: a stack runs on it, or it is not a stack's data folder.
    """
    if not data_dir.exists():
        return None
    if not data_dir.is_dir():
        raise ConfigurationError(f"{data_dir} is no folder: not removed")
    if any(data_dir.iterdir()) and not (data_dir / "secrets.json").exists():
        raise ConfigurationError(f"{data_dir} does not look like a stack's data (no secrets.json): not removed")
    folders = make_folders(data_dir)
    try:
        with locked(folders.lock):
            elsewhere = folders.data / "postgres"
            if elsewhere.is_symlink():
                shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
            remove_runtime(folders)
            shutil.rmtree(folders.data)
    except Held:
        raise ConfigurationError(f"a stack runs on {folders.data}: stop it first") from None
    except OSError as error:  # files of somebody else
        raise ConfigurationError(f"cannot remove {error.filename}: {error.strerror}") from None
    return folders.data


def main() -> int:
    try:
        gone = forget(load_settings().data_dir)
    except ConfigurationError as error:
        sys.stderr.write(f"swaplog: {error}\n")
        return EXIT_USAGE
    sys.stdout.write(f"removed {gone}\n" if gone else "nothing to remove\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
