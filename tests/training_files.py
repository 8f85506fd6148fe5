"""A small train set in the released folder layout, made of the golden pack; looks at built sets."""

import shutil
from pathlib import Path

import numpy as np

NAMES = ("h36m_train_mosh", "coco_train_eft", "mpi_inf_3dhp_train_eft")


def released_layout(golden: Path, root: Path) -> Path:
    """The released code's folder `data` with three image sets, and `cache` beside it.

    The first has 32 images of golden/train_steps, the others parts of the pack's 64; the poses of
    every tenth image of the pack are no fits.
    """
    pack, data = golden / "pack", root / "data"
    for folder in (data / "datasets", data / "stats", root / "cache/pare", root / "cache/hmr2b"):
        folder.mkdir(parents=True, exist_ok=True)
    stats = dict(np.load(pack / "pare_feat_stats.npz"))
    shutil.copy(pack / "pare_feat_stats.npz", data / "stats")
    shutil.copy(pack / "betas_stats_eft_fits.npz", data / "stats")
    fits, features, estimates = (
        dict(np.load(pack / f"3dpw_test{end}.npz")) for end in ("", "_pare_feats", "_hmr2_preds")
    )
    fits["has_body_pose"][::10] = 0
    for name, rows in zip(NAMES[1:], (slice(0, 40), slice(40, 64)), strict=True):
        np.savez(data / f"datasets/{name}.npz", **{k: v[rows] for k, v in fits.items()})
        kept = {k: features[k][rows] for k in ("pose_feats", "cam_shape_feats")}
        np.savez(root / f"cache/pare/{name}.npz", **kept)
        np.savez(root / f"cache/hmr2b/{name}.npz", **{k: v[rows] for k, v in estimates.items()})
    steps = np.load(golden / "train_steps_tiny_betas.npz")
    n = len(steps["pose_aa"])
    np.savez(
        data / f"datasets/{NAMES[0]}.npz",
        imgname=np.array([f"S1/{i:06d}.jpg" for i in range(n)]),
        center=np.zeros((n, 2)),
        scale=np.ones(n),
        body_pose=steps["pose_aa"],
        has_body_pose=np.ones(n),
        betas=steps["betas"],
        has_betas=np.ones(n),
    )
    # Raw again: what the backbone would have given.
    shapes = {"pose_feats": (128, 24), "cam_shape_feats": (64, 24)}
    parts = np.split(steps["feats"], [3072], axis=1)
    np.savez(
        root / f"cache/pare/{NAMES[0]}.npz",
        **{
            key: part.reshape(n, *shape) * stats[f"{key}_std"] + stats[f"{key}_mean"]
            for (key, shape), part in zip(shapes.items(), parts, strict=True)
        },
    )
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
