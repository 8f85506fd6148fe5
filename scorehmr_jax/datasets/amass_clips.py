"""Clips of AMASS that are there twice: in the forms of both body models, or copied."""

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scorehmr_jax.datasets.npz_folders import OddFile

_FORMS = ("poses", "stageii")  # of one clip: ends of its files' names, of SMPL-H and of SMPL-X
_FORM = re.compile(rf"(.*)_({'|'.join(_FORMS)})")
_MOMENTS = 32  # of a clip at which two are compared
# Correlation of the body's motion about its mean pose, in which the fits of two models differ. Of
# 174 clips of motion capture, 99.9% of the pairs stay below 0.82; a clip and itself, its joints
# turned by 0.1 rad each and shaken by 0.03, stay above 0.93.
_SAME_MOTION = 0.9
_LEAST_MOTION = 1e-3  # mean square of what is correlated, below which nobody moves


@dataclass
class Clips:
    """Clips that were taken, to notice those that come again."""

    contents: dict[bytes, Path] = field(default_factory=dict)
    forms: defaultdict[tuple[str, ...], list[tuple[Path, np.ndarray]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(
        self,
        path: Path,
        pose: Float[np.ndarray, "n 24 3"],
        x: Float[np.ndarray, "n 144"],
        when: Float[np.ndarray, " n"],
    ) -> None:
        """Adds a clip.

        Args:
            path: of its file.
            pose: the frames that are taken.
            x: the same in 6D.
            when: their times, the clip's first frame at 0 and its last at 1.
        Raises:
            OddFile: naming both files, if it is one that was added before.
        """
        # A pose at rest is the same in clips that have nothing to do with each other.
        content = hashlib.sha256(pose.tobytes()).digest() if np.ptp(pose, axis=0).any() else None
        first = self.contents.get(content) if content else None
        motion, named = _motion(x, when), _FORM.fullmatch(path.stem)
        if named and motion is not None:
            # In one folder, or in that of two copies of the data set. Names alone say little:
            # walk/01 may be there for every subject.
            form = named[2]
            place = (path.parent.name, re.sub(r"\W", "_", named[1]))
            other = _FORMS[1 - _FORMS.index(form)]
            twins = self.forms[other, *place]
            same = (p for p, theirs in twins if float(np.vdot(motion, theirs)) > _SAME_MOTION)
            first = first or next(same, None)
        if first is not None:
            raise OddFile("clips that are there already", f"{path}: the same clip as {first}")
        if content:
            self.contents[content] = path
        if named and motion is not None:
            self.forms[form, *place].append((path, motion.astype(np.float16)))


def _motion(
    x: Float[np.ndarray, "n 144"], when: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "m 126"] | None:
    """Describes how the body's joints move, in a unit vector; None if nobody moves."""
    body = x[:, 6:132]  # without the root, and the hands, which both models have elsewhere
    moments = np.linspace(0, 1, _MOMENTS)
    found = np.stack([np.interp(moments, when, column) for column in body.T], axis=1)
    found -= found.mean(0)
    if np.square(found).sum(1).mean() < _LEAST_MOTION:
        return None
    return found / np.linalg.norm(found)
