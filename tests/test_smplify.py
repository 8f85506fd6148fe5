"""SMPLify: its solver, its prior over poses, and that it finds poses that are known."""

import pickle
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import slope
from known_views import EVERY, VIEWS, error, skeleton, views

from body_model.joints import JOINT_NAMES
from scorehmr_jax.baselines import lbfgs, smplify
from scorehmr_jax.baselines.fitting import Fitting
from scorehmr_jax.baselines.pose_mixture import PoseMixture
from scorehmr_jax.baselines.smplify import SmplifyConfig, SmplifyWeights
from scorehmr_jax.guidance import keypoints_2d, multiview
from scorehmr_jax.screening import NOT_FINITE, OK, PADDING

TORSO = tuple(
    JOINT_NAMES.index(f"{side}_{joint}")
    for joint in ("hip", "shoulder")
    for side in ("left", "right")
)
FEW = SmplifyWeights(all=1e-2)  # keypoints without noise need no prior


@pytest.fixture(scope="module")
def run():
    config = SmplifyConfig(0, 300, solver="lbfgs", torso=TORSO)

    @jax.jit
    def run(estimate, keypoints, camera, mask, weights):
        terms = [keypoints_2d(keypoints, camera), multiview()]
        return smplify.smplify(skeleton(), estimate, terms, config, mask, weights=weights)

    return run


def test_it_recovers_known_poses_from_keypoints_without_noise(run):
    truth, estimate, *seen = views()
    assert 45 < error(estimate, truth).mean() < 75
    refined, info = run(estimate, *seen, EVERY, FEW)
    assert (info.status == OK).all()
    assert error(refined, truth).mean() < 10
    assert (info.losses[-1] < 0.01 * info.losses[0]).all()


def test_a_bad_sample_keeps_its_estimate_and_harms_no_other_group(run):
    _, estimate, *seen = views()
    good = run(estimate, *seen, EVERY, FEW)[0]
    spoilt = replace(estimate, translation=estimate.translation.at[1, 1].set(jnp.nan))
    refined, info = run(spoilt, *seen, EVERY.at[1, 2].set(False), FEW)
    assert info.status[1].tolist() == [OK, NOT_FINITE, PADDING, OK]
    np.testing.assert_array_equal(refined.pose[1, 1:3], estimate.pose[1, 1:3])
    np.testing.assert_allclose(refined.pose[::2], good.pose[::2], atol=1e-4)
    assert np.isfinite(refined.pose[1]).all()


def test_more_weight_of_the_priors_makes_usual_shapes_and_does_not_compile_again(run):
    _, estimate, *seen = views()
    weak = run(estimate, *seen, EVERY, FEW)[0]
    before = run._cache_size()
    strong = run(estimate, *seen, EVERY, SmplifyWeights(all=100.0))[0]
    assert run._cache_size() == before
    assert jnp.square(strong.betas).sum() < 0.2 * jnp.square(weak.betas).sum()


def test_the_objective_has_the_slope_of_finite_differences():
    _, estimate, keypoints, camera = views()
    with jax.enable_x64(True):
        double = partial(jax.tree.map, lambda a: jnp.asarray(a, jnp.float64)[:1])
        estimate, keypoints, camera = map(double, (estimate, keypoints, camera))
        body = double_of(skeleton())
        mixture = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), PoseMixture.shipped())
        key = jax.random.key(1)

        def values(numbers, estimate):
            fitting = Fitting.of(body, estimate, [keypoints_2d(keypoints, camera), multiview()])
            start = smplify._start(fitting) + numbers
            return smplify._objective(fitting, mixture, FEW, True, start)[0].sum()

        at = 0.1 * jax.random.normal(key, (1, VIEWS, 85), jnp.float64)
        along = jax.random.normal(jax.random.fold_in(key, 1), at.shape, at.dtype)
        found = jnp.vdot(jax.jit(jax.grad(values))(at, estimate), along)
        wanted = slope(partial(jax.jit(values), estimate=estimate), at, along, 1e-6)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def double_of(skeleton):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), skeleton)


def test_frames_of_a_video_share_their_shape():
    _, estimate, *seen = views()
    config = SmplifyConfig(2, 5, share_shape=True, torso=TORSO)
    apart = replace(estimate, betas=estimate.betas + 0.1 * jnp.arange(VIEWS)[:, None])
    run = jax.jit(lambda e: smplify.smplify(skeleton(), e, keypoints_2d(*seen), config)[0])
    betas = np.asarray(run(apart).betas)
    np.testing.assert_allclose(betas, np.broadcast_to(betas[:, :1], betas.shape), atol=1e-6)
    assert not np.allclose(betas[0, 0], betas[1, 0])


def test_views_that_agree_tell_nothing_of_the_shape():
    _, estimate, *_ = views()
    estimate = replace(estimate, betas=jnp.full_like(estimate.betas, 1.5))
    config = SmplifyConfig(0, 5, solver="lbfgs", torso=TORSO)
    found, _ = jax.jit(lambda e: smplify.smplify(skeleton(), e, multiview(), config))(estimate)
    np.testing.assert_allclose(found.betas, 1.5, rtol=1e-5)
    assert np.abs(np.asarray(found.pose) - np.asarray(estimate.pose)).max() > 1e-3


def test_a_solver_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="solver: expected adam or lbfgs, found 'newton'"):
        SmplifyConfig(solver="newton")


def test_lbfgs_finds_the_valleys_of_many_problems_each_at_its_own_pace():
    scale = jnp.array([1.0, 100.0, 1e-3, 10.0])

    def rosenbrock(x):
        return scale * ((1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2)

    def value_and_slope(x):
        return rosenbrock(x), jax.grad(lambda x: rosenbrock(x).sum())(x), rosenbrock(x)

    start = jnp.array([[-1.2, 1.0], [2.0, 2.0], [-1.0, 2.0], [1.0, 1.0]])
    x, records = jax.jit(lambda x: lbfgs.minimize(value_and_slope, x, 120))(start)
    np.testing.assert_allclose(x, 1, atol=1e-2)
    assert records.shape == (120, 4)
    np.testing.assert_allclose(records[0], rosenbrock(start), rtol=1e-6)


def test_lbfgs_never_takes_a_step_to_where_nothing_is_a_number():
    def value_and_slope(x):
        # A wall: beyond 0 there is no logarithm.
        return (x - jnp.log(x)).sum(-1), 1 - 1 / x, x

    x, _ = lbfgs.minimize(value_and_slope, jnp.array([[1e-3], [50.0]]), 60)
    np.testing.assert_allclose(x, 1, atol=1e-2)


def mixture_arrays(count=3):
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(count, 69, 69))
    return {
        "weights": rng.dirichlet(np.ones(count)),
        "means": rng.normal(size=(count, 69)),
        "covars": spread @ spread.transpose(0, 2, 1) / 69 + np.eye(69),
    }


def test_the_mixture_of_a_pickle_has_smplifys_energy(tmp_path):
    arrays = mixture_arrays()
    (tmp_path / "gmm_03.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    angles = np.random.default_rng(3).normal(size=(5, 69))
    found = PoseMixture.read(tmp_path / "gmm_03.pkl").energy(jnp.asarray(angles, jnp.float32))
    precisions = np.linalg.inv(arrays["covars"])
    off = angles[:, None] - arrays["means"]
    roots = np.sqrt(np.linalg.det(arrays["covars"]))
    share = arrays["weights"] / ((2 * np.pi) ** (69 / 2) * roots / roots.min())
    wanted = 0.5 * np.einsum("nci,cij,ncj->nc", off, precisions, off) - np.log(share)
    np.testing.assert_allclose(found, wanted.min(1), rtol=1e-4)


def test_a_file_that_is_no_mixture_is_named(tmp_path):
    arrays = mixture_arrays()
    path = tmp_path / "gmm.npz"
    for key, value, message in (
        ("means", arrays["means"][:, :66], r"gmm.npz: means: expected numbers \(3, 69\)"),
        ("covars", -arrays["covars"], "gmm.npz: covars: expected positive definite"),
        ("weights", arrays["weights"] * np.nan, "gmm.npz: weights holds numbers that are not"),
    ):
        np.savez(path, **{**arrays, key: value})
        with pytest.raises(ValueError, match=message):
            PoseMixture.read(path)
    np.savez(path, weights=arrays["weights"])
    with pytest.raises(ValueError, match=r"missing: \['means', 'covars'\]"):
        PoseMixture.read(path)


def test_the_shipped_mixture_knows_people_from_contortions(open_data):
    from scorehmr_jax.baselines.pose_mixture import with_mirrored
    from scorehmr_jax.simulation import mocap

    poses = mocap.read(open_data / "mocap_poses.npz").select("val").poses[::50]
    people = jnp.asarray(with_mirrored(poses), jnp.float32)
    mixed = jax.random.permutation(jax.random.key(0), people, axis=0, independent=True)
    energy = jax.jit(PoseMixture.shipped().energy)
    assert energy(people).mean() + 20 < energy(mixed).mean()
