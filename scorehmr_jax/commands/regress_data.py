"""First estimates of a data set's images, in files that can be refined."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from body_model.files import local_path, read_npz
from scorehmr_jax.commands.feature_cache import parts_folder, unreadable_list, write_unreadable
from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.long_work import writable
from scorehmr_jax.commands.network_parts import (
    Columns,
    Shown,
    boxes_of,
    finished_parts,
    remove_network_parts,
)
from scorehmr_jax.commands.picture_cameras import cameras
from scorehmr_jax.commands.picture_networks import Networks, in_full_image, mean_shape
from scorehmr_jax.formats.estimates import write_estimates
from scorehmr_jax.formats.features import flattened
from scorehmr_jax.formats.image_rows import ImageRows, read_image_rows
from scorehmr_jax.formats.pictures import Pictures
from scorehmr_jax.networks.image_network import ESTIMATE_KEYS
from scorehmr_jax.types import Keypoints2D


def regress_data(
    data: str | Path,
    images: str | Path,
    out: str | Path,
    networks: Networks,
    *,
    lens: Lens | None = None,
    body: str | Path | None = None,
    width: int = 0,
    video: bool = False,
    batch: int = 64,
    threads: int | None = None,
    turned: bool = True,
) -> list[Path]:
    """Writes the estimates that a network makes of a data set's images.

    Args:
        data: in the released layout, .npz or .pkl.
        images: the folder in which its names start.
        out: the .npz to write; of a list of groups a folder, with an .npz for each.
        networks: that people are shown to.
        lens: what is known of the focal length.
        body: an SMPL file; the open body by default.
        width: of the features that a prior takes, which are written too; 0 for none.
        video: True if the images of a group are frames of one video: then it has one shape.
        batch: patches at once.
        threads: that decode photos; one for each processor without.
        turned: False to read photos as they are stored, whatever their EXIF data say.
    Returns:
        The files.
    Raises:
        ValueError: naming file and key, if something cannot be read or does not fit.
    """
    from body_model import load, open_body

    rows, target = read_image_rows(data), local_path(out)
    files = _files(target, rows)
    networks.check(width)
    estimator = networks.estimator
    assert estimator is not None
    model = load(body) if body else open_body()
    folder = parts_folder(target)
    reading = (batch, threads, turned)
    estimating = Shown.of(rows, images, estimator, *reading)
    parts, unreadable = finished_parts(estimator, estimating, folder)
    columns = _columns(parts, (*ESTIMATE_KEYS, "image_size"))
    features = None
    if width:
        of = networks.of_features
        assert of is not None  # see Networks.check
        if networks.features is not None:
            parts, _ = finished_parts(of, Shown.of(rows, images, of, *reading), folder)
        held = _columns(parts, of.feature_keys)
        features = flattened(held, networks.statistics, width, f"the network {of.name}")
    size = columns.pop("image_size")
    focals, lens_note = (lens or Lens()).focals(Pictures(local_path(data), (), None), size)
    camera = jax.tree.map(lambda a: a[0], cameras(focals, size, 1))
    if video:
        for group in rows.groups():
            columns["pred_betas"][group] = mean_shape(columns["pred_betas"][group])
    # All at once: every other number of rows would be compiled for.
    estimate, note = in_full_image(columns, boxes_of(rows), camera, estimator, model)
    keypoints = _keypoints(rows)
    given = jax.tree.map(np.asarray, (estimate, camera, keypoints, features))
    for file, group in zip(files, rows.groups(), strict=True):
        write_estimates(file, *jax.tree.map(lambda a, group=group: a[group], given))
    write_unreadable(target, rows, unreadable)
    if not unreadable:
        remove_network_parts(folder)
    count, where = len(rows.names), files[0] if len(files) == 1 else target
    print(f"estimates of {count - len(unreadable)} of {count} images, written to {where}")
    print(f"camera:  focal length {lens_note}")
    if note:
        print(f"assumed: {note}")
    for line in unreadable_list(unreadable, target):
        print(line)
    return files


def _files(target: Path, rows: ImageRows) -> list[Path]:
    """The files to write, tried before the work."""
    if not rows.grouped:
        if target.suffix != ".npz":
            raise ValueError(f"--out: {target}: expected the .npz to write, as DATA is one table")
        return [writable(target)]
    if target.suffix:
        raise ValueError(
            f"--out: {target}: expected a folder, for an .npz of each of {len(rows.counts)} groups"
        )
    files = [target / f"group{i:04d}.npz" for i in range(len(rows.counts))]
    writable(files[0])
    return files


def _columns(parts: Sequence[Path], keys: Sequence[str]) -> Columns:
    held = [read_npz(part, keys) for part in parts]
    return {key: np.concatenate([part[key] for part in held]) for key in keys}


def _keypoints(rows: ImageRows) -> Keypoints2D:
    """OpenPose's keypoints; of confidence 0 where the data set has none."""
    if rows.keypoints is None:
        count = len(rows.names)
        return Keypoints2D(np.zeros((count, 25, 2)), np.zeros((count, 25)))
    confidence = np.nan_to_num(rows.keypoints[..., 2])
    seen = np.isfinite(rows.keypoints[..., :2]).all(-1)
    xy = np.where(seen[..., None], rows.keypoints[..., :2], 0)
    return Keypoints2D(xy.astype(np.float32), np.where(seen, confidence, 0).astype(np.float32))
