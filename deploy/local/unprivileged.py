"""Running a server as somebody with no rights, because Postgres refuses to run as root."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from libs.service.settings import ConfigurationError

NOBODY = "nobody"
TRY_WITHIN_S = 10
EVERYONE_READS = stat.S_IROTH
EVERYONE_ENTERS = stat.S_IXOTH


def server_user(data: Path) -> str | None:
    """Who the server runs as: None for ourselves; as root the owner of the data, at first `nobody`.

    Raises:
        ConfigurationError: we are not root and the data is somebody else's.
    """
    owner = data.stat().st_uid if data.exists() else None
    try:
        if os.getuid() == 0:
            return pwd.getpwuid(owner).pw_name if owner else pwd.getpwnam(NOBODY).pw_name
    except KeyError:
        raise ConfigurationError(
            f"running as root, and there is no user {owner or NOBODY} to run Postgres as"
        ) from None
    if owner is not None and owner != os.getuid():
        raise ConfigurationError(f"{data} belongs to another user: run as that user or as root, or set DATA_DIR")
    return None


def reachable_by(user: str | None, folder: Path) -> bool:
    """Whether `user` may pass through every folder down to this one."""
    if user is None:
        return True
    uid = pwd.getpwnam(user).pw_uid
    seen = (path.stat() for path in (folder.resolve(), *folder.resolve().parents))
    return all(one.st_uid == uid or one.st_mode & EVERYONE_ENTERS for one in seen)


def make_enterable(folder: Path) -> None:
    """Have a folder everybody may pass through, whatever umask root has."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)


def staged(programs: Path, to: Path, user: str | None) -> Path:
    """A folder with the same programs that `user` can run: this one, or hard links to it below `to`.

    Raises:
        ConfigurationError: `user` cannot run them from there either.
    """
    if user is None or _runs(programs / "postgres", user):
        return programs
    shutil.rmtree(to, ignore_errors=True)
    make_enterable(to)
    prefix = programs.parent
    in_wheel = prefix.parent / "__init__.py"
    root = prefix.parent if in_wheel.exists() else prefix
    libraries = root.with_name(f"{root.name}.libs")  # found by the programs relative to themselves
    for tree in (root, libraries):
        if tree.exists():
            _link_tree(tree, to / tree.name)
    here = to / programs.relative_to(root.parent)
    if not _runs(here / "postgres", user):
        raise ConfigurationError(f"{user} cannot run {programs / 'postgres'}: install Postgres where every user can")
    return here


def _link_tree(source: Path, target: Path) -> None:
    """Hard links where a file may be read by everybody and lies on the same disk, copies elsewhere."""
    for folder, _, names in os.walk(source):
        into = target / Path(folder).relative_to(source)
        into.mkdir(parents=True)
        into.chmod(0o755)
        for name in names:
            _link(Path(folder) / name, into / name)


def _link(source: Path, target: Path) -> None:
    if source.stat().st_mode & EVERYONE_READS:
        try:
            os.link(source.resolve(), target)
        except OSError:
            pass
        else:
            return
    shutil.copy(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _runs(program: Path, user: str) -> bool:
    seen = pwd.getpwnam(user)
    try:
        done = subprocess.run(  # noqa: S603 - a server we found ourselves
            [program, "--version"],
            user=seen.pw_uid,
            group=seen.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            timeout=TRY_WITHIN_S,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
