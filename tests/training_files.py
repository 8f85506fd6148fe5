"""Small training sets in the released folder layout, made of the golden pack, and their content."""

import shutil
from pathlib import Path

import numpy as np
from numpy.random import default_rng

NAMES = ("h36m_train_mosh", "coco_train_eft", "mpi_inf_3dhp_train_eft")


def released_layout(golden: Path, root: Path) -> Path:
    """The released code's folder `data` with three image sets, and `cache` beside it.

    They have 32, 40 and 24 images: those of the golden pack over and over, each time a little
    different. In the second and third, every tenth pose is no fit.
    """
    pack, data = golden / "pack", root / "data"
    folders = (data / "datasets", data / "stats", root / "cache/pare", root / "cache/hmr2b")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(pack / "pare_feat_stats.npz", data / "stats")
    shutil.copy(pack / "betas_stats_eft_fits.npz", data / "stats")
    fits, features, estimates = (
        dict(np.load(pack / f"3dpw_test{end}.npz")) for end in ("", "_pare_feats", "_hmr2_preds")
    )
    noisy, rng, first = ("body_pose", "betas", "pose_feats", "cam_shape_feats"), default_rng(0), 0
    for name, n in zip(NAMES, (32, 40, 24), strict=True):
        rows = (first + np.arange(n)) % len(fits["imgname"])
        first += n
        fitted = np.ones(n) if name == NAMES[0] else (np.arange(n) % 10 > 0).astype(float)
        names = np.array([f"{name}/{i:06d}.jpg" for i in range(n)])
        changes = {"imgname": names, "has_body_pose": fitted, "has_betas": np.ones(n)}
        for folder, arrays in (
            (data / "datasets", fits),
            (root / "cache/pare", {k: features[k] for k in ("pose_feats", "cam_shape_feats")}),
            (root / "cache/hmr2b", estimates),
        ):
            columns = {key: array[rows] for key, array in arrays.items()}
            for key in columns.keys() & noisy:
                noise = 0.01 * rng.standard_normal(columns[key].shape, np.float32)
                columns[key] = columns[key] + noise
            columns |= {key: changes[key] for key in columns.keys() & changes}
            np.savez(folder / f"{name}.npz", **columns)
    return data


def change(path, **changes):
    """Rewrites an .npz with some arrays replaced; None takes one out."""
    arrays = dict(np.load(path)) | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


def everything(folder, *columns):
    from scorehmr_jax.datasets.records import RecordSet

    records = RecordSet.open(folder)
    return records.read(np.arange(len(records)), columns)


def names_in(out):
    return sorted(p.name for p in out.iterdir()) if out.exists() else []
