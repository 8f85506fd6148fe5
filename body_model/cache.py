"""The folder of this user in which what is made once is kept for the next time."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Names the folder scorehmr-jax in XDG_CACHE_HOME, else ~/.cache, else a temporary folder.

    Returns:
        The path; nothing is created.
    """
    return _root() / "scorehmr-jax"


def _root() -> Path:
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a container's user may have no home at all
        return Path(tempfile.gettempdir())
