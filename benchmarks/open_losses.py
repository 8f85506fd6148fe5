"""Pictures of single images in which a baseline is ahead of the default mode.

    python -m benchmarks.open_losses --data DIR [--method flow] [--out docs/images/ahead.png]

Of the val split's weak estimates, those in which the method is ahead by the 99th, 95th and 90th
percentile of all images. A row is the default mode beside the method, and the truth.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import body_model
from benchmarks.open import baseline, make_measure, refiner
from benchmarks.scenes import FULL, scene
from body_model import Skeleton
from scorehmr_jax.output.demo_pictures import draw_moments
from scorehmr_jax.simulation import mocap
from scorehmr_jax.types import Estimate

PERCENTILES = (99, 95, 90)


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.open_losses",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--method", default="flow", help="of baselines/registry.py")
    parser.add_argument("--out", type=Path, default=Path("docs/images/ahead.png"))
    options = parser.parse_args(arguments)
    body = body_model.open_body()
    skeleton, clips = Skeleton.of(body), mocap.read(options.data / "mocap_poses.npz")
    seen = scene(jax.random.key(1), skeleton, clips.select("val"), "keypoints", "weak", FULL)
    ours, theirs = (
        run(seen)[0]
        for run in (
            refiner("open-cond", skeleton, "keypoints", "default"),
            baseline(options.method, skeleton, "keypoints"),
        )
    )
    measure = make_measure(body, skeleton)
    ours_off, theirs_off = (np.asarray(measure(seen, b)["pa_mpjpe"])[0] for b in (ours, theirs))
    gain = ours_off - theirs_off
    wanted = np.percentile(gain, PERCENTILES, method="nearest")
    frames = [int(np.flatnonzero(gain == value)[0]) for value in wanted]
    shares = [f"{np.mean(part):.0%}" for part in (gain > 0, gain > 10, gain < -10)]
    print("ahead in {}, by 10 mm in {}, behind by 10 mm in {}".format(*shares))
    before = Estimate(ours.pose, ours.betas, ours.translation)
    first = jax.tree.map(lambda a: a[0], (replace(seen, estimate=before), theirs))
    picture = draw_moments(body, *first, frames, ("default mode", options.method))
    plt.imsave(options.out, picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
