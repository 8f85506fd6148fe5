"""The conditional flow: what nflows computes, both ways; its weights; fitting in its latents."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays
from known_views import EVERY, error, skeleton, views

from body_model.files import write_npz
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.baselines.flow_weights import load_flow, released_flow, write_flow
from scorehmr_jax.baselines.prohmr import ProhmrConfig, ProhmrWeights, prohmr_fitting
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.guidance import keypoints_2d, multiview
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.screening import OK

TINY = ConditionalFlow(features=144, hidden=8, layers=2, blocks=1, normed=False)


@pytest.fixture(scope="module")
def recorded():
    return arrays(HERE / "flow.npz")


def state(recorded, coupling):
    """The weights of the recorded flow, which its keys and shapes alone decide."""
    found = {}
    for key, (shape, kind) in json.loads(str(recorded[f"{coupling}_keys"])).items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if key.endswith("_features"):
            layer, moved = int(key.split(".")[-2]) // 3, key.endswith("transform_features")
            found[key] = np.arange((layer + moved) % 2, 144, 2)
        elif "float" not in kind:
            found[key] = np.ones(shape, bool)
        elif key.endswith("running_var"):
            found[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif len(shape) >= 2:
            found[key] = (rng.normal(size=shape) * np.sqrt(1 / shape[1])).astype(np.float32)
        else:
            size = 0.05 if key.endswith("_entries") else 0.1
            found[key] = (size * rng.normal(size=shape)).astype(np.float32)
    return found


@pytest.mark.parametrize("coupling", ["additive", "affine"])
def test_it_computes_what_nflows_computes_and_its_inverse(recorded, coupling, tmp_path):
    save_torch(tmp_path / "prohmr.pt", {"state_dict": state(recorded, coupling)})
    sizes, params = load_flow(tmp_path / "prohmr.pt")
    assert sizes == ConditionalFlow(6, 16, 3, 2, coupling, coupling == "additive")
    x, features = recorded["x"], recorded["features"]

    @jax.jit
    def compute(params, x, features):
        folded = sizes.fold(params, features)
        z, log_det = folded.encode(x)
        jacobian = jax.vmap(lambda x, f: jax.jacfwd(lambda x: sizes.encode(params, x, f)[0])(x))(
            x, jnp.asarray(features)
        )
        return (
            *sizes.encode(params, x, features),
            sizes.log_prob(params, x, features),
            z,
            log_det,
            *folded.decode(z),
            jnp.linalg.slogdet(jacobian)[1],
        )

    with jax.enable_x64(True):  # these weights are far from orthogonal
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, features))
        found = jax.device_get(compute(*double))
    defined, defined_det, log_prob, z, log_det, back, back_det, derived = found
    for found in (defined, z):
        np.testing.assert_allclose(found, recorded[f"{coupling}_z"], atol=1e-5)
    for found in (defined_det, log_det, -back_det, derived):
        np.testing.assert_allclose(found, recorded[f"{coupling}_log_det"], rtol=1e-6)
    np.testing.assert_allclose(log_prob, recorded[f"{coupling}_log_prob"], rtol=1e-6)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_the_shipped_flow_is_invertible_and_knows_poses_from_contortions(open_data):
    from scorehmr_jax.simulation import mocap

    rotations = mocap.read(open_data / "mocap_poses.npz").select("val").poses[::400]
    sizes, params = load_flow()

    @jax.jit
    def compute(angles, params):
        x = rotations_to_x(axis_angle_to_matrix(angles))
        folded = sizes.fold(params, x)
        z, log_det = folded.encode(x)
        back, back_det = folded.decode(z)
        return x, back, log_det + back_det, sizes.log_prob(params, x, x)

    x, back, off, likely = compute(jnp.asarray(rotations), params)
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(off, 0, atol=1e-3)
    mixed = np.random.default_rng(0).permuted(rotations, axis=0)
    assert likely.mean() > compute(jnp.asarray(mixed), params)[3].mean() + 50


def test_keys_that_are_missing_or_foreign_are_named(recorded):
    good = state(recorded, "additive")
    lacking = {k: v for k, v in good.items() if not k.endswith("4.upper_entries")}
    with pytest.raises(ValueError, match=r"missing: _transform._transforms.4.upper_entries;"):
        released_flow(lacking, "f.pt")
    with pytest.raises(ValueError, match=r"not expected: _transform._transforms.1.temper;"):
        released_flow(good | {"flow.flow._transform._transforms.1.temper": np.zeros(1)}, "f.pt")
    with pytest.raises(ValueError, match=r"f.pt: no weights of a flow"):
        released_flow({"backbone.conv1.weight": np.zeros(3)}, "f.pt")
    short = {
        k: v[:-1] if k.endswith("1.bias") and v.shape == (144,) else v for k, v in good.items()
    }
    with pytest.raises(ValueError, match=r"_transforms.1.bias: expected \[144\], found \[143\]"):
        released_flow(short, "f.pt")


def test_a_flow_of_this_package_is_read_as_it_was_written(tmp_path):
    params = jax.jit(TINY.init)(jax.random.key(0))
    write_npz(tmp_path / "flow.npz", write_flow(TINY, params))
    sizes, found = load_flow(tmp_path / "flow.npz")
    assert sizes == TINY
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found, params)
    write_npz(tmp_path / "other.npz", {"a": np.zeros(1)})
    with pytest.raises(ValueError, match=r"other.npz: no flow: the key 'sizes' is missing"):
        load_flow(tmp_path / "other.npz")


def test_fitting_recovers_known_poses_from_keypoints_without_noise():
    truth, estimate, *seen = views()
    flow = TINY, jax.jit(TINY.init)(jax.random.key(0))
    config = ProhmrConfig(steps=300, solver="lbfgs", start="estimate")

    @jax.jit
    def run(estimate, mask, weights):
        terms = [keypoints_2d(*seen), multiview()]
        return prohmr_fitting(
            flow, skeleton(), estimate, None, terms, config, mask, weights=weights
        )

    refined, info = run(estimate, EVERY, ProhmrWeights(all=1e-3))
    assert (info.status == OK).all()
    assert error(refined, truth).mean() < 10
    kept = run(estimate, EVERY.at[0].set(False), ProhmrWeights(all=1e-3))[0]
    np.testing.assert_array_equal(kept.pose[0], estimate.pose[0])
    np.testing.assert_allclose(kept.pose[1:], refined.pose[1:], atol=1e-4)


def test_features_of_another_width_are_refused():
    _, estimate, *seen = views()
    flow = TINY, jax.eval_shape(TINY.init, jax.random.key(0))
    with pytest.raises(ValueError, match=r"features: expected \[..., 144\], found \(3, 4, 7\)"):
        jax.eval_shape(
            lambda: prohmr_fitting(
                flow, skeleton(), estimate, jnp.zeros((3, 4, 7)), keypoints_2d(*seen)
            )
        )
