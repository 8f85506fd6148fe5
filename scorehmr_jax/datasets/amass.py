"""Training samples from AMASS as it is given out, or from one .npz of body_pose: no images."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.datasets.samples import (
    Samples,
    axis_angle_to_x,
    bad_rows,
    refuse_degrees,
    turned_far,
)
from scorehmr_jax.formats.npz_rows import npz_files, read_shapes
from scorehmr_jax.formats.tables import Table, read_tables

_BODY_JOINTS = 22  # SMPL-H and SMPL-X share SMPL's joints up to the wrists


@dataclass
class Amass:
    """A `Source`: AMASS's folders of .npz (SMPL-H or SMPL-X), or one .npz of body_pose.

    Body pose only: the root is not turned and the hands are at rest, as AMASS's heading is that of
    a capture room and its fingers are not SMPL's. Clips are thinned to `fps`.
    """

    folder: Path
    fps: float = 10.0
    dropped: Counter[str] = field(default_factory=Counter)
    statistics = None
    layout = {"pose": 144, "betas": 10}  # noqa: RUF012 (read only)

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def notes(self) -> dict[str, Any]:
        return {"backbone": "none", "root": "not turned", "fps": self.fps}

    @cached_property
    def files(self) -> dict[Path, Table]:
        paths = [self.folder] if self.folder.is_file() else npz_files(self.folder)
        return {path: read_shapes(path) for path in paths}

    @cached_property
    def total(self) -> int:
        return sum(len(t[k]) for t in self.files.values() for k in ("poses", "body_pose") if k in t)

    def parts(self) -> Iterator[tuple[int, Samples]]:
        kept = far = 0
        for path, shapes in self.files.items():
            if "poses" not in shapes and "body_pose" not in shapes:
                self.dropped["files without poses (of subjects)"] += 1
                continue
            key = "poses" if "poses" in shapes else "body_pose"
            table = read_tables(path, (key, "betas", *_RATES))[0]
            n = len(table[key])
            rows = np.arange(0, n, self._stride(table)) if key == "poses" else np.arange(n)
            self.dropped["frames between those that are taken"] += n - len(rows)
            pose = table.unchecked(key, shapes[key].shape, np.float32)[rows]
            pose = _body_pose(path, key, pose)
            betas = _betas(table, n)[rows]
            bad = bad_rows(pose, betas)
            far += int(turned_far(pose[~bad]).sum())
            self.dropped["with NaN or infinity"] += int(bad.sum())
            name = str(path.relative_to(self.folder)) if path != self.folder else path.stem
            names = np.array([f"{name}/{row}" for row in rows], str)
            kept += int((~bad).sum())
            yield n, Samples(names[~bad], axis_angle_to_x(pose[~bad]), betas[~bad])
        self.dropped = +self.dropped
        refuse_degrees(far, kept, self.where)
        if not kept:
            raise ValueError(
                f"{self.folder}: no poses in {len(self.files)} files; expected AMASS's .npz with "
                "poses [T, 156 or 165], or one with body_pose [N, 69 or 72]"
            )

    def _stride(self, table: Table) -> int:
        key = next((key for key in _RATES if key in table), None)
        rate = self.fps if key is None else float(np.resize(table.numbers(key), 1)[0])
        if not 0 < rate < np.inf:
            raise ValueError(f"{table.where}: {key} is {rate}; expected frames per second")
        return max(1, round(rate / self.fps))


_RATES = ("mocap_framerate", "mocap_frame_rate")


def _betas(table: Table, count: int) -> np.ndarray:
    """SMPL's ten shape numbers [N, 10] of a clip; AMASS has 16 or 8 of them, once for all frames.

    Raises:
        ValueError: naming the file, if there is neither one row nor one per frame.
    """
    betas = np.zeros((count, 10), np.float32)
    if "betas" in table:
        found = table.numbers("betas")
        if found.ndim not in (1, 2) or (found.ndim == 2 and len(found) not in (1, count)):
            raise ValueError(
                f"{table.where}: betas has shape {found.shape}; expected [B] or [{count}, B]"
            )
        known = min(10, found.shape[-1])
        betas[:, :known] = found[..., :known]
    return betas


def _body_pose(path: Path, key: str, pose: np.ndarray) -> np.ndarray:
    """Axis-angle [N, 24, 3] with the root not turned and the hands at rest."""
    rows = len(pose)
    if pose.ndim != 2 or pose.shape[1] not in (69, 72, 156, 165):
        raise ValueError(
            f"{path}: {key} has shape {pose.shape}; expected [T, 156] (SMPL-H), [T, 165] (SMPL-X), "
            "[N, 72] (SMPL) or [N, 69] (SMPL without its root)"
        )
    joints = pose.reshape(rows, -1, 3)
    if pose.shape[1] == 69:
        joints = np.concatenate([np.zeros((rows, 1, 3), pose.dtype), joints], axis=1)
    out = np.zeros((rows, 24, 3), np.float32)
    own = slice(1, 24 if joints.shape[1] == 24 else _BODY_JOINTS)
    out[:, own] = joints[:, own]
    return out
