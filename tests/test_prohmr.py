"""ProHMR's regression: the mode of its flow and samples of it, with shape and camera."""

import json

import golden_networks as nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays

from scorehmr_jax import image_checkpoint
from scorehmr_jax.baselines.flow_weights import load_flow
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.networks.image_registry import image_network_of
from scorehmr_jax.networks.prohmr import ProHMR
from scorehmr_jax.prior import x_to_rotations

SIZES = {"flow_hidden": 32, "flow_layers": 3, "flow_blocks": 2, "head_hidden": 16}
SMALL = ProHMR(8, (1, 1, 1, 1), **SIZES)


@pytest.fixture(scope="module")
def recorded():
    return arrays(HERE / "prohmr.npz")


def state(network=SMALL):
    """The weights of the recorded network, which its keys and shapes alone decide."""
    found = {}
    for key, shape in nets.released_shapes(network).items():
        last = key.split(".")[-1]
        if last in ("identity_features", "transform_features"):
            number = int(key.split("_transforms.")[1].split(".")[0]) // 3
            found[key] = np.arange((number + (last[0] == "t")) % 2, 144, 2)
        elif last == "initialized":
            found[key] = np.array(True)
        elif last.startswith("init_") or last.endswith("_entries"):
            size = 0.1 if last.startswith("init_") else 0.02
            found[key] = (size * nets.drawn_from(key).normal(size=shape)).astype(np.float32)
        else:
            found[key] = nets.weight(key, shape)
    return found


@pytest.fixture(scope="module")
def network():
    return nets.network(SMALL, state())


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(nets.pictures(5, 2, 224))


@jax.jit
def at(network, images, latents):
    """What the module gives for latents [N, K, 144]."""
    return network.architecture.module.apply({"params": network.params}, images, latents)


draw = jax.jit(ImageNetwork.samples, static_argnames="count")
outputs = jax.jit(ImageNetwork.outputs)


@pytest.fixture(scope="module")
def drawn(network, images):
    """Three samples of each picture, and the estimates."""
    return draw(network, images, jax.random.key(0), count=3), outputs(network, images)


def test_it_computes_what_pytorch_and_nflows_compute(recorded, network, images):
    found = at(network, images, jnp.asarray(recorded["z"]))
    nets.assert_close(found["img_feats"][:, ::8], recorded["feats"])
    nets.assert_close(found["pred_pose"], recorded["pose"])
    nets.assert_close(found["pred_betas"], recorded["betas"])
    nets.assert_close(found["pred_cam"], recorded["camera"])
    nets.assert_close(found["log_prob"], recorded["log_prob"], 1e-5)


def test_its_tensors_are_the_released_ones(recorded):
    listed = {key: tuple(shape) for key, shape in json.loads(str(recorded["keys"])).items()}
    assert nets.released_shapes(ProHMR()) == listed
    encoder = {key: shape for key, shape in listed.items() if key.startswith("backbone.")}
    assert nets.released_shapes(ProHMR(gives_estimate=False)) == encoder


def test_the_estimate_is_the_mode_and_samples_are_apart(drawn):
    found, estimate = drawn
    assert {key: value.shape for key, value in found.items()} == {
        "pred_pose": (2, 4, 24, 3, 3),
        "pred_betas": (2, 10),
        "pred_cam": (2, 3),
        "log_prob": (2, 4),
    }
    np.testing.assert_allclose(found["pred_pose"][:, 0], estimate["pred_pose"], atol=1e-5)
    for key in ("pred_betas", "pred_cam"):
        np.testing.assert_allclose(found[key], estimate[key], atol=1e-5)
    poses, log_prob = np.asarray(found["pred_pose"]), np.asarray(found["log_prob"])
    assert (log_prob[:, :1] > log_prob[:, 1:]).all()
    apart = np.abs(poses[:, :, None] - poses[:, None]).max((-1, -2, -3))
    assert (apart + np.eye(4) > 0.1).all()
    rotations = poses.reshape(-1, 3, 3)
    np.testing.assert_allclose(rotations @ rotations.mT, np.tile(np.eye(3), (192, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)


def test_samples_are_poses_of_latents_that_are_standard_normal(network, images):
    flow, weights = SMALL.flow, network.params["flow"]
    found = draw(network, images[:1], jax.random.key(3), count=500)
    features = outputs(network, images[:1])["img_feats"]

    @jax.jit
    def both(key):
        given = jnp.tile(features, (500, 1))
        z = jax.random.normal(key, (500, 144))
        x, _ = flow.fold(weights, given).decode(z)
        return (
            z,
            flow.encode(weights, x, given)[0],
            x_to_rotations(x),
            flow.log_prob(weights, x, given),
        )

    z, again, poses, log_prob = both(jax.random.key(2))
    np.testing.assert_allclose(again, z, atol=2e-3)
    own, theirs = (np.asarray(a).reshape(500, -1) for a in (found["pred_pose"][0, 1:], poses))
    np.testing.assert_allclose(own.mean(0), theirs.mean(0), atol=0.25)
    np.testing.assert_allclose(own.std(0), theirs.std(0), atol=0.2)
    for of in (np.mean, np.std):
        np.testing.assert_allclose(of(found["log_prob"][0, 1:]), of(log_prob), rtol=0.1)


def test_the_fitting_of_the_baselines_reads_the_same_flow(network, tmp_path):
    save_torch(tmp_path / "checkpoint.pt", {"state_dict": state()})
    sizes, weights = load_flow(tmp_path / "checkpoint.pt")
    assert sizes == SMALL.flow
    jax.tree.map(np.testing.assert_array_equal, weights, network.params["flow"])


def test_a_picture_has_the_same_samples_whoever_follows_it(network, images, drawn):
    together, _ = drawn
    alone = draw(network, images[0], jax.random.key(0), count=3)
    for key, value in alone.items():
        np.testing.assert_allclose(value, together[key][0], atol=1e-4, rtol=1e-5)
    bad = draw(network, images.at[1].set(jnp.nan), jax.random.key(0), count=3)
    np.testing.assert_array_equal(bad["pred_pose"][0], together["pred_pose"][0])
    other = draw(network, images, jax.random.key(1), count=3)
    apart = np.abs(other["pred_pose"] - together["pred_pose"]).max((-1, -2, -3))
    assert (apart[:, 0] == 0).all() and (apart[:, 1:] > 0.1).all()
    none = jax.eval_shape(lambda: network.samples(images[None], jax.random.key(0), 0))
    assert none["log_prob"].shape == (1, 2, 1)


def test_bfloat16_is_near(network, images, drawn):
    found = outputs(network.astype("bfloat16"), images)
    assert all(value.dtype == jnp.float32 for value in found.values())
    assert np.abs(found["pred_pose"] - drawn[1]["pred_pose"]).mean() < 0.05


def test_what_has_no_distribution_says_so(images):
    encoder = ImageNetwork({"a": jnp.zeros(1)}, ProHMR(gives_estimate=False))
    with pytest.raises(ValueError, match="prohmr: gives no distribution to draw from"):
        encoder.samples(images, jax.random.key(0), 2)
    whole = ImageNetwork({"a": jnp.zeros(1)}, ProHMR())
    with pytest.raises(ValueError, match="count: expected 0 or more, found -1"):
        whole.samples(images, jax.random.key(0), -1)


@pytest.fixture
def small(monkeypatch):
    encoder = ProHMR(8, (1, 1, 1, 1), gives_estimate=False, **SIZES)
    monkeypatch.setattr(ProHMR, "released", classmethod(lambda cls: (SMALL, encoder)))


def test_tensors_that_do_not_fit_are_named(small, tmp_path):
    saved, net = state(), "flow.flow._transform._transforms.2.transform_net"
    path = tmp_path / "wrong.pt"
    save_torch(path, saved)
    assert image_checkpoint.read(path)[1] == SMALL
    del saved[f"{net}.initial_layer.bias"]
    saved["flow.fc_head.layers.4.weight"] = np.ones((2, 2), np.float32)
    saved["flow.fc_head.init_cam"] = np.ones(3, np.float32)
    save_torch(path, saved)
    with pytest.raises(ValueError) as error:
        image_checkpoint.read(path)
    for part in (
        f"missing: {net}.initial_layer.bias;",
        "not expected: flow.fc_head.layers.4.weight;",
        "of another shape: flow.fc_head.init_cam: expected [1, 1, 3], found [3]",
    ):
        assert part in str(error.value)
    mask = "flow.flow._transform._transforms.5.identity_features"
    save_torch(path, state() | {mask: np.arange(72)})
    with pytest.raises(ValueError, match=f"{mask}: expected .1, 3, 5, 7. and so on"):
        image_checkpoint.read(path)
    unset = "flow.flow._transform._transforms.0.initialized"
    save_torch(path, state() | {unset: np.array(False)})
    with pytest.raises(ValueError, match=f"{unset}: expected True"):
        image_checkpoint.read(path)


def test_files_of_the_encoder_from_before_the_flow_are_read():
    found = image_network_of({"network": "prohmr", "width": 64, "blocks": [3, 4, 6, 3]})
    assert found == ProHMR(gives_estimate=False)
    assert not found.gives_estimate and found.latent == 0
