"""Files written whole or not at all, and .npz files read with care.

Every place that writes a file goes through `writing`, and every place that reads an .npz through
`read_npz` or `open_npz`, so that all give the same guarantees and the same messages. Folders are
written by body_model/folders.py; body_model/paths.py has the paths of both.
"""

import difflib
import errno
import json
import os
import secrets
import stat
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from body_model.paths import followed, local_path, make_folder

# A file of n bytes may not grow into more than _FREE + _GROWTH * n when it is decompressed, copied
# or made dense.
_GROWTH = 32
_FREE = 256 * 2**20

_NPY = b"\x93NUMPY"  # how an .npy begins


@contextmanager
def writing(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[Any]:
    """Opens a file that takes its place when the block ends without error, and is gone otherwise.

    Until then a file of that name stays as it was, and whoever reads meanwhile sees the old one.
    The folder is made if need be; a link is followed, not replaced.

    Args:
        path: of the file.
        mode: "wb", or "w" for text in UTF-8.
    Raises:
        ValueError: if the path is an address, a folder or device has that name, or a file is in the
            place of a folder above it.
        OSError: naming the path, if it cannot be written.
    """
    target = followed(local_path(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device or pipe"
        raise ValueError(f"{target}: is {kind}; expected the name of a file to write")
    # No suffix of its own: a reader of all "*.npz" in the folder must not find it.
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        make_folder(target.parent)
        text = {} if "b" in mode else {"encoding": "utf-8"}
        # "x": made anew, with the permissions that any new file gets.
        with open(part, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
            yield file
        os.replace(part, target)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part), str(target.parent)):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; errors as of `writing`."""
    with writing(path, "w") as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file, whole or not at all.

    Raises:
        ValueError: if JSON cannot hold the value, as it cannot hold NaN; else as `writing`.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be written as JSON ({error})") from error
    write_text(path, text + "\n")


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], *, compressed: bool = True
) -> None:
    """Writes a compressed .npz, whole or not at all; equal arrays give equal files.

    Args:
        path: of the file; no suffix is added.
        arrays: by key, numpy's or JAX's.
        compressed: False for what does not shrink, such as features: it is written ten times as
            fast.
    Raises:
        ValueError: naming the key, if numpy's files cannot hold such an array: Python objects,
            bfloat16 and other types that are not numpy's own; else as `writing`.
    """
    made = {key: np.asarray(array) for key, array in arrays.items()}
    for key, array in made.items():
        if array.dtype.hasobject or array.dtype.isbuiltin == 2:  # 2: added by a package
            raise ValueError(
                f"{path}: key {key}: an .npz cannot hold {array.dtype}; expected numbers or text "
                "of numpy's own types, such as float32"
            )
    with writing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for key, array in made.items():
            member = zipfile.ZipInfo(f"{key}.npy")  # with a fixed date
            member.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


class Npz(dict[str, np.ndarray]):
    """The arrays of an .npz by key; whoever asks for one that is not there gets a clear error.

    A key whose value is made of Python objects is `in` here, as it is in the file, but its value
    is a pickle and is not read: asking for it says so. Going through keys and values leaves it out.
    """

    def __init__(self, path: str, arrays: Mapping[str, np.ndarray], objects: Collection[str] = ()):
        super().__init__(arrays)
        self.path = path
        self.objects = frozenset(objects)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.objects

    def __missing__(self, key: str) -> Any:
        if key in self.objects:
            raise ValueError(
                f"{self.path}: key {key} holds Python objects, which are not read; expected plain "
                "numbers or text: load the .pkl it came from, or save .toarray() of a sparse matrix"
            )
        raise ValueError(f"{self.path}: no key {key}; found {', '.join(sorted(self)) or 'none'}")

    def get(self, key: str, default: Any = None) -> Any:
        """Returns self[key], or the default where the file has no such key."""
        if key not in self:
            return default
        return self[key]


def read_npz(path: str | os.PathLike[str], keys: Collection[str] | None = None) -> Npz:
    """Reads the arrays of an .npz; nothing in it is unpickled.

    Args:
        path: of the file, whatever its suffix.
        keys: which to read, those that are there; all by default.
    Raises:
        ValueError: naming the file, if it is missing, damaged, of another kind, or far larger
            inside than its size.
    """
    arrays, objects = {}, []
    with open_npz(path, keys) as archive, damage_named(path):
        for key in _keys(archive, keys):
            with archive.open(f"{key}.npy") as member:
                try:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    objects.append(key)
    return Npz(str(path), arrays, objects)


@contextmanager
def open_npz(
    path: str | os.PathLike[str], keys: Collection[str] | None = None
) -> Iterator[zipfile.ZipFile]:
    """Opens the archive that an .npz is, to read it in parts; refuses it if it is none.

    Args:
        path: of the file.
        keys: which will be read: these may not be far larger than the file.
    Raises:
        ValueError: as `read_npz`.
    """
    where = local_path(path)
    with _opened(where) as file:
        start = file.read(len(_NPY))
        if start == _NPY:
            raise ValueError(f"{where}: holds a single array (.npy); expected an .npz, with keys")
        if start[:2] != b"PK":
            begins = f"begins with {start!r}" if start else "is empty"
            raise ValueError(f"{where}: {begins}, so it is no .npz; expected numpy's archive")
        file.seek(0)
        with damage_named(where):
            archive = zipfile.ZipFile(file)
        names = archive.namelist()
        if names and not any(name.endswith(".npy") for name in names):
            raise ValueError(
                f"{where}: a zip archive without arrays, first {names[0]!r}; expected an .npz"
            )
        if any(member.flag_bits & 1 for member in archive.infolist()):
            raise ValueError(f"{where}: the archive is encrypted; write it without a password")
        own = os.fstat(file.fileno()).st_size
        size = sum(archive.getinfo(f"{key}.npy").file_size for key in _keys(archive, keys))
        if size > most_bytes(own):
            raise ValueError(
                f"{where}: refuses to read {size} bytes, far more than its size of {own}; if it is "
                "sound, write it again without compression"
            )
        yield archive


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the array of an .npy; nothing in it is unpickled.

    Raises:
        ValueError: naming the file, if it is missing, damaged, of another kind or of objects.
    """
    where = local_path(path)
    with _opened(where) as file:
        if file.read(len(_NPY)) != _NPY:
            raise ValueError(f"{where}: is no .npy; expected one array as numpy.save writes it")
        file.seek(0)
        with damage_named(where):
            try:
                return np.lib.format.read_array(file, allow_pickle=False)
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
    raise ValueError(
        f"{where}: holds Python objects, which are not read; expected an array of plain numbers "
        "or text"
    )


def npz_keys(path: str | os.PathLike[str]) -> list[str]:
    """Lists the keys of an .npz without reading it; errors as of `read_npz`."""
    with open_npz(path, ()) as archive:
        return _keys(archive, None)


def warn_of_unread(
    where: str, held: Iterable[Any], read: Collection[str], others: Collection[str] = ()
) -> None:
    """Warns of keys that a file holds and that nothing reads, and guesses what they were meant for.

    Args:
        where: begins the message.
        held: the file's keys.
        read: the keys that are read.
        others: keys that such files are known to have, and that are left alone in silence.
    """
    unknown = sorted(str(key) for key in {*held} - {*read} - {*others})
    if not unknown:
        return
    named = []
    for key in unknown:
        close = difflib.get_close_matches(key.lower(), read, 1, cutoff=0.7)
        meant = [*close, *(each for each in read if each in key.lower())]
        named.append(f"{key} ({meant[0]}?)" if meant else key)
    warnings.warn(
        f"{where}: not read: {', '.join(named)}; known are {', '.join(read)}", stacklevel=3
    )


def is_npz(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file begins as an .npz does, whatever its suffix.

    Raises:
        ValueError: naming the file, if it is missing or cannot be read.
    """
    return _start(path)[:2] == b"PK"


def is_npy(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file begins as an .npy does, whatever its suffix; errors as `is_npz`."""
    return _start(path) == _NPY


def most_bytes(size: int) -> int:
    """Returns how large the content of a file of `size` bytes may be in memory."""
    return _FREE + _GROWTH * size


def _start(path: str | os.PathLike[str]) -> bytes:
    with _opened(local_path(path)) as file:
        return file.read(len(_NPY))


def _keys(archive: zipfile.ZipFile, keys: Collection[str] | None) -> list[str]:
    held = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    return [key for key in dict.fromkeys(held) if keys is None or key in keys]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise ValueError(f"{path}: is {kind}; expected a file")
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    with file:
        yield file


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever a damaged file makes a reader raise into a ValueError that names the file."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(f"{path}: does not fit into memory ({error})") from None
    except OSError as error:
        if error.errno == errno.EINVAL or error.errno is None:
            raise _damaged(path, error) from None
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    # A damaged file can fail in any way.
    except Exception as error:
        raise _damaged(path, error) from None


def _damaged(path: str | os.PathLike[str], error: Exception) -> ValueError:
    reason = str(error) or type(error).__name__
    if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
        return ValueError(f"{path}: cut short or damaged ({reason}); copy or write it again")
    return ValueError(f"{path}: cannot be read as numpy's file ({reason}); write it again")
