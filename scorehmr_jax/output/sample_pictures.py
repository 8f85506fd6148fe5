"""Pictures of what a prior draws: a grid of its poses, or samples beside the truth.

All bodies have the mean shape and one scale, and stand with the pelvis at the same place before
one camera. Needs matplotlib (the extra `viz`), imported on first use.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model import SMPL, Skeleton
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation.metrics import pa_mpjpe
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.output.pictures import Picture, contact_sheet
from scorehmr_jax.output.render import render
from scorehmr_jax.prior import x_to_rotations
from scorehmr_jax.types import Array, Camera

COLUMNS, GRID_ROWS = 6, 3  # samples side by side; rows of them where there is no condition
SAMPLE, ESTIMATE, TRUTH = (0.62, 0.75, 0.88), (0.90, 0.72, 0.60), (0.80, 0.80, 0.79)
DISTANCE = 6.0  # from the camera to the pelvis, metres
METRE = 130  # pixels, at the pelvis
# The least that a cell shows: left, top, right, bottom, from the pelvis, metres. Most poses fit, so
# that the pictures of a run mostly have one size.
WINDOW = (-0.62, -0.88, 0.62, 1.08)
MARGIN = 6  # pixels around the mesh
CAPTION = 24  # height of the text under a body, pixels
PAPER = 245  # grey of a cell


def draw_samples(
    body: SMPL,
    samples: Float[Array, "S P D"],
    truth: Float[Array, "P _"] | None = None,
    estimate: Float[Array, "P _"] | None = None,
) -> Picture:
    """Draws samples in a grid, or for each condition in a row beside the truth and the estimate.

    It is a grid of up to 18 samples if there is one condition with neither truth nor estimate,
    else a row holds the truth, the estimate and up to 6 samples. Under every body beside a truth is
    its PA-MPJPE as validation has it (mean shape, OPENPOSE_25), that of the best sample in the row
    in bold. A pose that is not finite leaves its cell empty.

    Args:
        body: whose mesh is drawn, in about 0.1 s for each pose.
        samples: [S, P, D] 6D poses in the camera frame, the first 144 of D numbers; S for each of
            P conditions, all of which are drawn.
        truth: [P, D] true poses.
        estimate: [P, D] poses that the samples are conditioned on.
    Returns:
        [H, W, 3] uint8.
    Raises:
        ValueError: if there is no sample, or what is given is not of P poses of 144 numbers.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 3 or not samples.size or samples.shape[2] < POSE_DIM:
        raise ValueError(f"samples: expected shape [S, P, 144], found {list(samples.shape)}")
    count = samples.shape[1]
    bodies = {}
    for name, given, color in (("truth", truth, TRUTH), ("estimate", estimate, ESTIMATE)):
        if given is None:
            continue
        given = np.asarray(given, np.float32)
        if given.shape[:-1] != (count,) or given.shape[-1] < POSE_DIM:
            raise ValueError(f"{name}: expected shape [{count}, 144], found {list(given.shape)}")
        bodies[name] = given, color
    grid = count == 1 and not bodies
    shown = samples[: COLUMNS * GRID_ROWS if grid else COLUMNS]
    bodies |= {f"sample {i + 1}": (x, SAMPLE) for i, x in enumerate(shown)}
    poses = np.stack([x[:, :POSE_DIM] for x, _ in bodies.values()], 1)
    colors = [color for _, color in bodies.values()]
    cells = _cells(body, poses, colors, 0 if truth is None else CAPTION)
    if grid:
        return contact_sheet([cells[0][i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)])
    if truth is not None:
        errors = np.asarray(_errors(Skeleton.of(body), poses))
        for row, error in zip(cells, errors, strict=True):
            best = np.nan_to_num(error[-len(shown) :], nan=np.inf).min()
            row[0] = _written(row[0], "PA-MPJPE:", CAPTION / 2)
            for i, e in enumerate(error, 1):
                is_best = bool(e == best) and i > len(error) - len(shown)
                if np.isfinite(e):
                    row[i] = _written(row[i], f"{e:.0f} mm", CAPTION / 2, bold=is_best)
    return contact_sheet(cells, columns=list(bodies))


@jax.jit
def _vertices(body: SMPL, poses: Float[Array, "*P 144"]) -> Float[Array, "*P V 3"]:
    """Makes the meshes of 6D poses, with the pelvis before the camera."""
    rotations = x_to_rotations(poses)
    pelvis = body.joints(rotations)[..., 0, :]
    return body.vertices(rotations, None, jnp.array([0, 0, DISTANCE]) - pelvis)


@jax.jit
def _errors(skeleton: Skeleton, poses: Float[Array, "P B 144"]) -> Float[Array, "P B-1"]:
    """Measures the PA-MPJPE of poses to the first of each row, millimetres."""
    keypoints = skeleton(x_to_rotations(poses), jnp.zeros(skeleton.num_betas))
    return pa_mpjpe(keypoints[:, 1:], keypoints[:, :1])


def _cells(
    body: SMPL,
    poses: Float[np.ndarray, "P B 144"],
    colors: list[tuple[float, float, float]],
    below: int,
) -> list[list[Picture]]:
    """Draws each pose [P][B], all in one size in which they fit, with room below."""
    vertices, faces = np.asarray(_vertices(body, poses)), np.asarray(body.faces)
    finite = np.isfinite(vertices).all((-2, -1))
    focal, zero = jnp.full(2, METRE * DISTANCE), jnp.zeros(2)
    points = np.asarray(project(jnp.asarray(vertices[finite]), Camera(focal, zero, zero)))
    seen = np.concatenate([points.reshape(-1, 2), METRE * np.reshape(WINDOW, (2, 2))])
    low, high = np.floor(seen.min(0)) - MARGIN, np.ceil(seen.max(0)) + MARGIN + (0, below)
    camera = Camera(focal, jnp.asarray(-low), jnp.asarray(high - low))
    width, height = (high - low).astype(int)
    paper = np.full((height, width, 3), PAPER, np.uint8)
    empty = _written(paper, "not finite", height / 2)
    return [
        [
            render(mesh, faces, camera, color=color, background=paper) if good else empty
            for mesh, color, good in zip(meshes, colors, goods, strict=True)
        ]
        for meshes, goods in zip(vertices, finite, strict=True)
    ]


def _written(picture: Picture, text: str, y: float, bold: bool = False) -> Picture:
    """Writes a line of text in the middle of a picture, y pixels above its lower edge."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(picture)
    color, weight = ("#111", "bold") if bold else ("#666", "normal")
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": color, "weight": weight}
    figure.text(0.5, y / height, text, fontsize=10, **style)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
