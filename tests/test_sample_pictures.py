"""Pictures of samples: places, margins, and poses that are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest

from body_model.joints import NUM_JOINTS
from body_model.open.stand_in import stand_in
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.output.sample_pictures import CAPTION, MARGIN, PAPER, draw_samples
from scorehmr_jax.prior import rotations_to_x

pytest.importorskip("matplotlib")

HEAD, GAP = 28, 6  # of a contact sheet


@pytest.fixture(scope="module")
def body():
    return stand_in()


@pytest.fixture(scope="module")
def poses():
    """[10, 144] before a camera, upright; the first with its arms stretched out."""
    turns = 0.4 * np.random.default_rng(0).standard_normal((10, NUM_JOINTS, 3))
    turns[:, 0] = (np.pi, 0, 0)
    turns[0, 1:] = 0
    return np.asarray(rotations_to_x(axis_angle_to_matrix(jnp.asarray(turns, np.float32))))


def cells_of(picture, rows, columns, head):
    """The pictures [rows, columns, H, W, 3] of a sheet."""
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    height, width = (picture.shape[0] - head) / rows, picture.shape[1] / columns
    assert height % 1 == width % 1 == 0
    cells = picture[head:].reshape(rows, int(height), columns, int(width), 3).swapaxes(1, 2)
    assert (cells[:, :, -GAP:] == 255).all() and (cells[..., -GAP:, :] == 255).all()
    return cells[:, :, :-GAP, :-GAP].astype(int)


def mesh_color(cell):
    """The mean red less the mean blue of a body; None where there is no body."""
    seen = cell.max(-1) - cell.min(-1) > 4
    return (cell[seen][:, 0] - cell[seen][:, 2]).mean() if seen.sum() > 500 else None


@pytest.mark.slow
def test_a_prior_without_condition_gives_a_grid(body, poses):
    samples = poses[[0, 1, 2, 2, 3, 4, 5], None].copy()
    samples[4] = np.nan
    cells = cells_of(draw_samples(body, samples), 2, 6, head=0)
    assert (cells[1, 1:] == 255).all()  # seven samples
    drawn = [*cells[0], cells[1, 0]]
    np.testing.assert_array_equal(drawn[2], drawn[3])
    assert np.abs(drawn[1] - drawn[2]).max() > 100
    for i, cell in enumerate(drawn):
        assert (mesh_color(cell) is None) == (i == 4)
        edges = cell[:MARGIN], cell[-MARGIN:], cell[:, :MARGIN], cell[:, -MARGIN:]
        assert all((edge == PAPER).all() for edge in edges)


@pytest.mark.slow
def test_a_condition_gives_a_row(body, poses):
    truth, estimate = poses[:2], poses[2:4]
    samples = np.stack([poses[4:6], poses[6:8], poses[8:10]])
    samples[1, 0] = np.inf
    samples[0, 0], samples[2, 1] = truth  # the best ones
    cells = cells_of(draw_samples(body, samples, truth, estimate), 2, 5, HEAD)
    color = [[mesh_color(cell) for cell in row] for row in cells]
    assert color[0][3] is None and color[1][3] is not None
    for true, estimated, *sampled in color:
        assert sampled[0] < -20 and estimated > 20
        assert true is None  # grey
    # Captions: grey, but the best sample's is nearly black; none where there is no sample.
    darkest = cells[..., -CAPTION:, :, :].min((-3, -2, -1))
    assert darkest[:, :2].min() > 80 and darkest[:, :2].max() < 140
    assert darkest[0, 2] < 60 < 80 < darkest[0, 4] < 140
    assert darkest[1, 4] < 60 < 80 < darkest[1, 2:4].min()
    assert darkest[0, 3] == PAPER
    samples[:, 0] = np.nan
    cells = cells_of(draw_samples(body, samples, truth, estimate), 2, 5, HEAD)
    assert all(mesh_color(cell) is None for cell in cells[0, 2:])


def test_six_samples_at_most_and_no_caption_without_truth(body, poses):
    picture = draw_samples(body, poses[1:9, None], estimate=poses[:1])
    cells = cells_of(picture, 1, 7, HEAD)[0]
    assert [mesh_color(cell) > 0 for cell in cells] == [True, *[False] * 6]
    assert (cells[:, -MARGIN:] == PAPER).all()


@pytest.mark.parametrize(
    ("samples", "truth", "match"),
    [
        (np.zeros((0, 1, 144)), None, "samples: expected"),
        (np.zeros((4, 144)), None, "samples: expected"),
        (np.zeros((4, 2, 144)), np.zeros((3, 144)), "truth: expected"),
    ],
)
def test_what_does_not_fit_is_refused(body, samples, truth, match):
    with pytest.raises(ValueError, match=match):
        draw_samples(body, samples, truth)
