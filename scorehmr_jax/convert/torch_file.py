"""PyTorch checkpoints read without PyTorch, and without running anything they name.

A file of `torch.save` is a zip: `data.pkl` describes the object and refers to `data/<key>`, the
bytes of each storage. A tensor is a storage's type, an offset, a size and strides. In pickles of
others, as `numpy.save` and joblib make them, a tensor's storage is a small file of PyTorch's old
format within the pickle: `TENSORS` are the names that such pickles may use.
"""

import io
import math
import mmap
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from body_model.paths import local_path
from body_model.pickles import load_pickle, read_bytes
from body_model.placeholders import Placeholder, UnsafePickle, Value, shown

# PyTorch's name of a storage -> numpy's of its type.
_STORAGES = {
    "Float": "f4",
    "Double": "f8",
    "Half": "f2",
    "BFloat16": "bfloat16",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
# Lightning's checkpoints hold the settings of the run that made them, beside the weights.
_SETTINGS = (
    "argparse.Namespace",
    "collections.defaultdict",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "typing.Any",
    "yacs.config.CfgNode",
)
_RESAVE = "torch.save(torch.load(path, map_location='cpu'), new_path) with PyTorch >= 1.6"
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HEAD = struct.Struct("<26xHH")  # of a member of a zip: lengths of its name and of what follows it


def load_torch(path: str | Path, *, mapped: bool = False) -> Any:
    """Reads a PyTorch checkpoint (.pt, .pth, .ckpt; also .xz or .gz around it).

    Args:
        path: of the file.
        mapped: True to leave the numbers in the file, which are read where they are used, so that
            a large one does not fill the memory. They change when the file is written over: copy
            what is kept. What is packed is read whole all the same.
    Returns:
        What was saved, usually nested dicts, with numpy arrays for tensors; arrays are read-only.
    Raises:
        UnsafePickle: if it names anything but tensors and plain containers.
        ValueError: if it is missing, truncated, of another kind or of PyTorch's old format; both
            name the file.
    """
    name, data = _mapped(path) if mapped else read_bytes(path)
    if data[: len(_LEGACY_START)] == _LEGACY_START or data[257:262] == b"ustar":
        raise ValueError(f"{name}: PyTorch's format from before 1.6; save it again: {_RESAVE}")
    try:
        stream: Any = data if isinstance(data, _Mapped) else io.BytesIO(data)
        archive = zipfile.ZipFile(stream)
    # A damaged archive can fail in any way.
    except Exception as error:
        raise ValueError(
            f"{name}: not a whole PyTorch checkpoint ({error}); it may be truncated or of "
            "another kind"
        ) from None
    with archive:
        roots = [n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(roots) != 1:
            found = "without data.pkl" if not roots else f"with {len(roots)} data.pkl"
            raise ValueError(f"{name}: not a PyTorch checkpoint (a zip {found})")
        if f"{roots[0]}constants.pkl" in archive.namelist():
            raise ValueError(f"{name}: a TorchScript program; a checkpoint of weights is needed")
        reader = _Reader(name, archive, roots[0], memoryview(data))
        description = io.BytesIO(reader.member("data.pkl"))
        description.name = name  # messages then tell the checkpoint, not its inner file
        return load_pickle(
            description,
            extra=reader.allowed(),
            persistent_load=reader.storage,
            encoding="utf-8",
        )


def torch_weights(
    path: Path, expected: str, *, mapped: bool = False
) -> tuple[Mapping[str, Any] | None, bytes]:
    """Reads a checkpoint's dict of weights, or tells how a file of another kind begins.

    Args:
        path: of the file.
        expected: the kinds of files that would do, for messages.
        mapped: as `load_torch`.
    Returns:
        What the checkpoint holds; None if the file is none. And its first six bytes.
    Raises:
        UnsafePickle, ValueError: as `load_torch`; and if the file cannot be read or holds no dict.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise ValueError(f"{path}: {reason}; expected {expected}") from None
    if not is_torch(path, start):
        return None, start
    loaded = load_torch(path, mapped=mapped)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: expected a dict of weights, found {type(loaded).__name__}")
    return loaded, start


def is_torch(path: Path, start: bytes) -> bool:
    """Tells by its suffix, first bytes or content if a file that exists is a PyTorch checkpoint."""
    if path.suffix in (".pt", ".pth", ".ckpt") or start == b"\xfd7zXZ\x00":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    # A damaged archive can fail in any way; read as another kind, it says what is wrong.
    except Exception:
        return False


class _Mapped(mmap.mmap):
    """A file's bytes, read where they are used."""

    def seekable(self) -> bool:
        """As Python's own says from 3.13 on; zipfile asks."""
        return True


def _mapped(path: str | Path) -> tuple[str, bytes | _Mapped]:
    """A file's name and bytes, as `read_bytes` gives them; those of a zip are not read yet."""
    try:
        with local_path(path).open("rb") as file:
            if file.read(2) == b"PK":
                return str(path), _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        pass  # the reader says why
    return read_bytes(path)


class _Storage(Placeholder):
    """Placeholder of a storage class such as torch.FloatStorage."""

    code = ""


class _Setting(Placeholder):
    """Placeholder of a setting of a training run, which is passed over with all that is in it."""

    kind = "a setting of a training run"

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class _Flat(Value):
    """The numbers of one storage, as a vector that lies in memory without gaps."""


class _Reader:
    def __init__(self, name: str, archive: zipfile.ZipFile, root: str, data: memoryview) -> None:
        self._name, self._archive, self._root, self._data = name, archive, root, data
        self._loaded: dict[str, _Flat] = {}
        big = f"{root}byteorder" in archive.namelist() and self.member("byteorder") == b"big"
        self._order: Literal["<", ">"] = ">" if big else "<"

    def allowed(self) -> dict[str, Any]:
        return {**_storage_classes(), **_NAMES, **dict.fromkeys(_SETTINGS, _Setting)}

    def member(self, inner: str) -> bytes:
        """The contents of a member, checked."""
        return bytes(self._contents(inner))

    def _contents(self, inner: str) -> memoryview:
        """The contents of a member where they lie, checked."""
        try:
            info = self._archive.getinfo(self._root + inner)
        except KeyError:
            raise ValueError(f"{self._name}: '{inner}' is missing from the checkpoint") from None
        # PyTorch stores its members as they are; anything packed could be a bomb.
        if info.compress_type != zipfile.ZIP_STORED:
            raise UnsafePickle(f"{self._name}: refuses compressed content in '{inner}'")
        try:
            self._archive.open(info).close()  # looks at the member's head
            lengths = _HEAD.unpack_from(self._data, info.header_offset)
            start = info.header_offset + _HEAD.size + sum(lengths)
            contents = self._data[start : start + info.file_size]
            if len(contents) != info.file_size or zlib.crc32(contents) != info.CRC:
                raise ValueError("its sum is another than what the checkpoint says")
            return contents
        except Exception as error:
            raise ValueError(f"{self._name}: '{inner}' is damaged ({error})") from None

    def storage(self, reference: Any) -> _Flat:
        """The flat array of ('storage', class, key, device, count)."""
        kind, cls, key, _, count = reference
        if kind != "storage" or not (isinstance(cls, type) and issubclass(cls, _Storage)):
            raise UnsafePickle(f"refuses the reference {shown(reference)}")
        if key not in self._loaded:
            flat = np.frombuffer(self._contents(f"data/{key}"), self._dtype(cls.code))
            if len(flat) != count:
                raise ValueError(f"storage {key} has {len(flat)} numbers, expected {count}")
            self._loaded[key] = _Flat(flat)
        return self._loaded[key]

    def _dtype(self, code: str) -> np.dtype:
        if code == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16).newbyteorder(self._order)
        return np.dtype(code).newbyteorder(self._order)


def _storage_classes() -> dict[str, type[_Storage]]:
    return {
        f"torch.{kind}Storage": type(f"{kind}Storage", (_Storage,), {"code": code})
        for kind, code in _STORAGES.items()
    }


def _storage_of_bytes(contents: Any) -> _Flat:
    """The numbers of a storage within a pickle: three pickles of versions, one that describes the
    storage, one of its key, the count and the numbers."""
    if not isinstance(contents, bytes) or not contents.startswith(_LEGACY_START):
        raise UnsafePickle("refuses a storage that is not in PyTorch's format")
    stream, found = io.BytesIO(contents), []

    def following() -> bytes:
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        return contents[start : stream.tell()]

    def described(reference: Any) -> None:
        kind, cls, *_ = reference
        if kind != "storage" or not (isinstance(cls, type) and issubclass(cls, _Storage)):
            raise UnsafePickle(f"refuses the reference {shown(reference)}")
        found.append(cls.code)

    _, _, versions = following(), following(), load_pickle(following())
    if not versions.get("little_endian", True):
        raise ValueError("a storage of a machine with the other order of bytes")
    load_pickle(following(), extra=_storage_classes(), persistent_load=described)
    following()
    (count,) = struct.unpack("<q", stream.read(8))
    if len(found) != 1 or count < 0:
        raise ValueError(f"a storage of {len(found)} parts and {count} numbers")
    dtype: Any = found[0]
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    return _Flat(np.frombuffer(contents, dtype, count, stream.tell()))


def _tensor(
    storage: _Flat,
    offset: int,
    size: Sequence[int],
    strides: Sequence[int],
    requires_grad: bool,
    hooks: Any,
    metadata: Any = None,
) -> Value:
    """Makes a tensor as a view of its storage, checked to lie inside it."""
    # A tensor made earlier is a view, and the end of its memory is not known.
    if not isinstance(storage, _Flat):
        raise UnsafePickle("refuses a tensor that is not made from a storage")
    flat = storage.value
    integers = [offset, *size, *strides]
    if not all(isinstance(n, int) and n >= 0 for n in integers) or len(size) != len(strides):
        raise ValueError(
            f"tensor of size {shown(size)}, strides {shown(strides)}, offset {shown(offset)}"
        )
    empty = 0 in size
    last = offset + sum((n - 1) * s for n, s in zip(size, strides, strict=True))
    if not empty and last >= len(flat):
        raise ValueError(
            f"tensor of size {list(size)}, strides {list(strides)} and offset {offset} reaches "
            f"beyond its storage of {len(flat)} numbers"
        )
    if math.prod(size) > len(flat):
        raise ValueError(
            f"tensor of size {list(size)} and strides {list(strides)} is larger than its storage "
            f"of {len(flat)} numbers; save a contiguous copy of it"
        )
    if empty:
        return Value(np.zeros(tuple(size), flat.dtype))
    view = np.lib.stride_tricks.as_strided(
        flat[offset:], tuple(size), [s * flat.itemsize for s in strides], writeable=False
    )
    return Value(view)


_NAMES: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, requires_grad, hooks: data,
    "torch.Size": tuple,
    "torch.device": lambda kind, index=None: kind,
}
# For `load_pickle`'s `extra`.
TENSORS: dict[str, Any] = {**_NAMES, "torch.storage._load_from_bytes": _storage_of_bytes}
