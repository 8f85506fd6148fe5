"""Versions of the software that made a file, so that its figures can be made again."""

import json
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

_NAME = "scorehmr-jax"
_PACKAGES = (_NAME, "jax", "flax", "numpy")


def versions() -> dict[str, str | None]:
    """Lists the versions of Python and of the packages, and the commit of this code.

    Returns:
        By name. A package that is used from its folder without being installed has None. The
        commit ends in `-dirty` where tracked files were changed since; it is None where the code
        lies in no repository of its own.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    return found | {name: _version(name) for name in _PACKAGES} | {"commit": commit()}


@cache
def commit() -> str | None:
    """Finds the git commit of this code: of its repository, or of what pip has installed."""
    root = Path(__file__).resolve().parents[1]
    # An environment inside somebody's repository has that repository's commit, not ours.
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        command += ["--exclude=*"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None
    try:
        origin = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(origin or "{}").get("vcs_info", {}).get("commit_id")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
