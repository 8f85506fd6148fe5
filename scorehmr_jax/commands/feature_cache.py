"""Features and estimates of a data set's images in the released code's files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from body_model.files import local_path, npz_keys, read_npz, write_text
from scorehmr_jax.camera import DEFAULT_FOCAL, crop_to_full
from scorehmr_jax.commands.network_parts import (
    Columns,
    Shown,
    finished_parts,
    remove_network_parts,
)
from scorehmr_jax.formats.image_rows import ImageRows
from scorehmr_jax.formats.npz_rows import join
from scorehmr_jax.formats.tables import write_groups
from scorehmr_jax.networks.image_network import ImageNetwork

_LISTED = 8  # rows that are named on the terminal
_NOT_KEPT = ("image_size", "problems")  # columns of the parts alone


def cache_features(
    rows: ImageRows,
    images: str | Path,
    network: ImageNetwork,
    out: str | Path,
    batch: int = 64,
    threads: int | None = None,
    turned: bool = True,
) -> dict[int, str]:
    """Shows a data set's images to a network, and writes a file as the released caches are.

    What is done is kept beside the file, in OUT.parts: the same call goes on after an interruption,
    and writes the same file. It stays there while some images cannot be shown: when they are
    mended, the same call makes their parts anew.

    Args:
        rows: of the data set, as `read_image_rows` gives them.
        images: the folder in which their names start.
        network: with its weights.
        out: the file to write: .npz, or for groups .pkl.
        batch: patches at once.
        threads: that decode photos; one for each processor without.
        turned: False to read photos as they are stored, whatever their EXIF data say.
    Returns:
        What is wrong with each row that is NaN, by its number.
    Raises:
        ValueError: if the folder has none of the images, or none of the first can be shown.
    """
    target = local_path(out)
    shown = Shown.of(rows, images, network, batch, threads, turned)
    folder = parts_folder(target)
    files, unreadable = finished_parts(network, shown, folder, _full_image_camera(shown))
    keys = [key for key in npz_keys(files[0]) if key not in _NOT_KEPT]
    if rows.grouped:
        _write_groups(target, files, keys, rows.groups())
    else:
        join(target, files, keys)
    write_unreadable(target, rows, unreadable)
    if not unreadable:
        remove_network_parts(folder)
    return unreadable


def write_unreadable(target: Path, rows: ImageRows, unreadable: Mapping[int, str]) -> None:
    """Writes number, name and what is wrong of each row that is NaN beside the file of results.

    Without such rows a list of an earlier run is removed.
    """
    listing = _listing(target)
    if unreadable:
        lines = [f"{row}\t{rows.names[row]}\t{text}\n" for row, text in unreadable.items()]
        write_text(listing, "".join(lines))
    else:
        listing.unlink(missing_ok=True)


def parts_folder(target: Path) -> Path:
    """Where parts are kept until the file is whole."""
    return target.with_name(f"{target.name}.parts")


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Raises a ValueError if a finished file would be replaced unasked."""
    if target.exists() and not overwrite and not parts_folder(target).is_dir():
        raise ValueError(f"{target}: there is a file already; choose another --out, or --overwrite")


def unreadable_list(unreadable: Mapping[int, str], target: Path) -> Iterator[str]:
    """Names the rows that are NaN, a line for each of the first, and says what can be done."""
    if not unreadable:
        return
    yield f"{len(unreadable)} could not be shown; their rows are NaN, listed in {_listing(target)}:"
    for row, text in [*unreadable.items()][:_LISTED]:
        yield f"  row {row}: {text}"
    if len(unreadable) > _LISTED:
        yield f"  and {len(unreadable) - _LISTED} more"
    yield (
        f"Mend them and give the same command again: {parts_folder(target)} has what is done. "
        "Remove that folder if they are to stay as they are."
    )


def _listing(target: Path) -> Path:
    return target.with_name(f"{target.name}.unreadable.txt")


def _full_image_camera(shown: Shown) -> Callable[[slice, Columns], Columns]:
    """Puts the translation in the full image beside the network's camera, as released."""

    def beside(rows: slice, columns: Columns) -> Columns:
        if "pred_cam" not in columns:
            return {}
        weak, size = columns["pred_cam"], columns["image_size"]
        translation = np.full_like(weak, np.nan)
        good = np.isfinite(weak).all(-1)
        if good.any():
            center, side = (a[rows][good].astype(np.float32) for a in (shown.center, shown.side))
            full = size[good].astype(np.float32)
            translation[good] = crop_to_full(weak[good], center, side, full, DEFAULT_FOCAL)
        return {"pred_cam_t": translation}

    return beside


def _write_groups(
    target: Path, files: Sequence[Path], keys: Sequence[str], groups: Sequence[slice]
) -> None:
    """Writes a pickled list of dicts, one per group."""
    parts = [read_npz(file, keys) for file in files]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in keys}
    write_groups(target, [{key: array[rows] for key, array in whole.items()} for rows in groups])
