"""Paths as users give them: on this machine, through links, in folders that may have to be made."""

import os
import re
from pathlib import Path

# pathlib makes one slash of two; a single letter is a drive of Windows.
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+._-]+):/+")
_OF_WINDOWS = re.compile(r"\s*([A-Za-z]):[\\/]|\s*\\\\")
_OF_SSH = re.compile(r"\s*[^\s/@:]+@[^\s/@:]+:")


def local_path(path: str | os.PathLike[str]) -> Path:
    """Makes a path of what a user gave; "~" is their home.

    Raises:
        ValueError: if it is the address of an object store or a server, such as gs://bucket/file or
            me@host:file, or a path of another system, such as C:/file: these would otherwise become
            local folders of the name "gs:", "me@host:" or "C:".
    """
    text = os.fspath(path)
    if isinstance(text, bytes):
        raise ValueError(f"{text!r}: expected a path as text, found bytes; os.fsdecode makes one")
    if "\0" in text:
        raise ValueError(f"{text!r}: holds a zero byte; expected a path on this machine")
    if _OF_SSH.match(text):
        raise ValueError(
            f"{text}: is an address of another machine; expected a path on this one: copy it with "
            "scp or rsync, or give the whole path, from /, of a file of that name"
        )
    if os.name != "nt" and (of_windows := _OF_WINDOWS.match(text)):
        drive = (of_windows[1] or "c").lower()
        raise ValueError(
            f"{text}: is a path of Windows; expected one of this system, with /, such as "
            f"/mnt/{drive}/Users under WSL, or the whole path, from /, of a file of that name"
        )
    if address := _SCHEME.match(text):
        scheme, rest = address[1], text[address.end() :]
        advice = "copy it with that store's own tool, or mount the store as a folder"
        if scheme == "file":
            advice = f"write /{rest}"
        raise ValueError(
            f"{scheme}://{rest}: is an address; expected a path on this machine: {advice}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, or one without a home
        return Path(text)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes a folder, and those above it, where they are not there yet.

    Raises:
        ValueError: if the path is an address, or a file is in the place of one of them.
        OSError: naming the folder, if it cannot be made.
    """
    folder = local_path(path)
    for each in (folder, *folder.parents):
        if each.is_dir():
            break
        if each.exists():
            raise ValueError(f"{each}: is a file; expected a folder, in which {folder} would lie")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def followed(path: Path) -> Path:
    """Returns the place that a path stands for: its own, or where a link leads.

    Raises:
        ValueError: if the link leads to itself.
    """
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise ValueError(f"{path}: is a link that leads to itself; remove it") from None
