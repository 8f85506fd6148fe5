"""First estimates of the people in pictures, in an .npz that can be refined."""

from pathlib import Path

import jax
import numpy as np

from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.long_work import Clock, writable
from scorehmr_jax.commands.picture_estimates import (
    PictureEstimates,
    estimate_pictures,
    target_of,
)
from scorehmr_jax.commands.picture_networks import Networks
from scorehmr_jax.commands.picture_people import Where
from scorehmr_jax.formats.pictures import open_pictures


def regress_pictures(
    source: str | Path,
    out: str | Path | None,
    networks: Networks,
    *,
    where: Where | None = None,
    lens: Lens | None = None,
    body: str | Path | None = None,
    width: int = 0,
    video: bool = False,
) -> PictureEstimates:
    """Writes the estimates that a network makes of the people in pictures.

    Args:
        source: a photo, a folder of photos or a video.
        out: the .npz to write, or a folder for it, named after the source by default.
        networks: that people are shown to.
        where: how people are found; by MediaPipe by default.
        lens: what is known of the focal length.
        body: an SMPL file; the open body by default.
        width: of the features that a prior takes, which are written too; 0 for none.
        video: True if the photos of a folder are frames of one video, in order.
    Returns:
        What was written.
    Raises:
        ValueError: if there is no picture, nobody is found in any, or the place for the result
            cannot be written.
    """
    from body_model import load, open_body
    from scorehmr_jax.formats.estimates import write_estimates

    clock = Clock()
    pictures = open_pictures(source)
    target = writable(target_of(pictures, out, "estimates"))
    networks.check(width)
    model = load(body) if body else open_body()
    seen = estimate_pictures(
        pictures,
        model,
        where or Where(keypoints_needed=False),
        lens or Lens(),
        networks,
        width,
        video,
        clock,
    )
    estimate, camera, keypoints, features = jax.tree.map(
        lambda a: np.asarray(a)[seen.rows],
        (seen.estimate, seen.camera, seen.keypoints, seen.features),
    )
    write_estimates(target, estimate, camera, keypoints, features, fps=pictures.fps)
    for line in seen.summary():
        print(line)
    print(f"time:    {sum(clock.laps.values()):.1f} s")
    print(f"wrote:   {target}")
    return seen
