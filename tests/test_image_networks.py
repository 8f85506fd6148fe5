"""Networks that look at pictures: the released ones' numbers, and what every network promises."""

import golden_networks as nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.networks.convolution import Conv
from scorehmr_jax.networks.hmr2 import HMR2
from scorehmr_jax.networks.hrnet import HRNet, doubled
from scorehmr_jax.networks.image_network import Crop, ImageNetwork
from scorehmr_jax.networks.image_registry import (
    IMAGE_NETWORKS,
    describe_image_network,
    image_network_of,
)
from scorehmr_jax.networks.pare import PARE
from scorehmr_jax.networks.prohmr import ProHMR
from scorehmr_jax.networks.vit import ViT

TINY = HMR2(
    width=128,
    depth=2,
    heads=4,
    decoder_width=128,
    decoder_depth=2,
    decoder_heads=4,
    decoder_inner=128,
    decoder_hidden=128,
)
HMR2_PARTS = {"vit": "backbone.", "head": "smpl_head."}
# What the golden's mean body is: no rotation, written row by row.
MEAN = {
    "init_body_pose": np.tile([1.0, 0, 0, 1, 0, 0], 24),
    "init_betas": 0.0,
    "init_cam": [0.9, 0, 0],
}


@pytest.fixture(scope="module")
def hmr2(golden):
    parts = nets.listed(nets.folder(golden) / "hmr2_tiny_state_dict.json")
    return nets.network(TINY, nets.released(parts, HMR2_PARTS, **MEAN))


def inner(network, images, kind):
    """The outputs, and those of the modules of a kind, without compiling the network as a whole."""
    outputs, state = network.architecture.module.apply(
        {"params": network.params},
        images,
        capture_intermediates=lambda module, _: isinstance(module, kind),
    )
    return outputs, state["intermediates"]


def test_prohmr_gives_the_released_features(golden):
    folder = nets.folder(golden)
    parts = nets.listed(folder / "prohmr_resnet50_state_dict.json")
    state = nets.released(parts, {"": "backbone."})
    assert nets.released_shapes(ProHMR(gives_estimate=False)) == {
        k: v.shape for k, v in state.items()
    }
    network = nets.network(ProHMR(gives_estimate=False), state)
    with np.load(folder / "prohmr_resnet50_forward.npz") as g:
        found = network.features(nets.pictures(g["image_seed"], 2, 224))
        assert list(found) == ["img_feats"]
        nets.assert_close(found["img_feats"], g["feats"])


def test_pare_gives_the_released_features_and_estimate(golden):
    folder = nets.folder(golden)
    state = nets.released(nets.listed(folder / "pare_state_dict.json"), {"": ""})
    assert nets.released_shapes(PARE()) == {key: value.shape for key, value in state.items()}
    network = nets.network(PARE(), state)
    with np.load(folder / "pare_forward.npz") as file:
        g = dict(file)
    images = jnp.asarray(nets.pictures(g["image_seed"], 2, 224))
    np.testing.assert_array_equal(images[:, ::8, ::8].transpose(0, 3, 1, 2), g["image"])
    # Step by step, as XLA takes its time over so many convolutions at once.
    outputs, seen = inner(network, images, HRNet | Conv)
    maps = np.asarray(seen["backbone"]["__call__"][0])
    nets.assert_close(maps.mean((1, 2)), g["backbone_mean"])
    nets.assert_close(maps[:, ::7, ::7, ::16].transpose(0, 3, 1, 2), g["backbone_sub"])
    parts = np.asarray(seen["head"]["parts"]["__call__"][0])
    nets.assert_close(parts[:, ::7, ::7].transpose(0, 3, 1, 2), g["segm_sub"])
    theirs = {"pred_betas": "pred_shape"}
    for key in ("pose_feats", "cam_shape_feats", "pred_pose", "pred_betas", "pred_cam"):
        nets.assert_close(outputs[key], g[theirs.get(key, key)])

    # PARE was trained to write a rotation's two columns row by row.
    kernel = state["head.pose_mlp.weight"].reshape(6, 128, 24)
    six = np.einsum("ncj,kcj->njk", g["pose_feats"], kernel).reshape(2, 24, 3, 2)
    first = six[..., 0] / np.linalg.norm(six[..., 0], axis=-1, keepdims=True)
    pose, _, camera = network.regress(images)
    nets.assert_close(pose[..., 0], first)
    nets.assert_close(camera, g["pred_cam"])


def test_hmr2_gives_the_released_estimate(golden, hmr2):
    with np.load(nets.folder(golden) / "hmr2_tiny_forward.npz") as file:
        g = dict(file)
    images = jnp.asarray(nets.pictures(g["image_seed"], 2, 256))
    _, seen = inner(hmr2, images, ViT)
    tokens = np.asarray(seen["backbone"]["__call__"][0]).reshape(2, 16, 12, 128)
    nets.assert_close(tokens.transpose(0, 3, 1, 2), g["feats"])
    pose, betas, camera = hmr2.regress(images)
    nets.assert_close(pose, np.concatenate([g["global_orient"], g["body_pose"]], axis=1))
    nets.assert_close(betas, g["betas"])
    nets.assert_close(camera, g["cam"])


def test_the_whole_hmr2_has_the_released_tensors(golden):
    parts = nets.listed(nets.folder(golden) / "hmr2_state_dict.json")
    listed = {f"{part}.{key}": shape for part, keys in parts.items() for key, shape in keys.items()}
    assert nets.released_shapes(HMR2()) == listed
    means = 144 + 10 + 3
    assert sum(map(np.prod, listed.values())) == 630_912_000 + 39_547_037 + means


SMALL = {
    "prohmr": ProHMR(8, (1, 1, 1, 1), True, flow_hidden=16, flow_layers=2, head_hidden=8),
    "hmr2": HMR2(32, 1, 2, 16, 1, 2, 8, 16),
}


@pytest.fixture(scope="module", params=SMALL)
def small(request):
    return nets.drawn(SMALL[request.param])


def two_images(network):
    side = network.crop.size
    return jax.random.normal(jax.random.key(1), (2, side, side, 3))


@jax.jit
def run(network, images):
    traced.append(network.name)
    return network.outputs(images)


traced: list[str] = []


def test_images_of_a_batch_do_not_touch_each_other(small):
    images = two_images(small)
    together = run(small, images)
    found = run(small, images.at[1].set(jnp.nan))
    for key, value in found.items():
        assert np.isnan(value[1]).all()
        np.testing.assert_array_equal(value[0], together[key][0])


def test_other_weights_do_not_compile_again(small):
    images = two_images(small)
    first, count = run(small, images), len(traced)
    second = run(jax.tree.map(lambda leaf: 1.1 * leaf, small), images)
    assert len(traced) == count
    assert all(np.abs(first[key] - second[key]).max() > 0 for key in first)


def test_any_leading_axes(small):
    images = two_images(small)
    shapes = jax.eval_shape(ImageNetwork.outputs, small, images)
    for batch in ((), (0,), (3,), (2, 3)):
        some = jax.ShapeDtypeStruct((*batch, *images.shape[1:]), jnp.float32)
        found = jax.eval_shape(ImageNetwork.outputs, small, some)
        for key, value in found.items():
            assert value.shape == (*batch, *shapes[key].shape[1:])
    side = small.crop.size
    with pytest.raises(ValueError, match=rf"expected \[..., {side}, {side}, 3\].*found \[4, 9, 9"):
        small.outputs(jnp.zeros((4, 9, 9, 3)))


def test_bfloat16_is_near_and_its_results_are_float32(small):
    images = two_images(small)
    expected = run(small, images)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = run(small.astype("bfloat16"), images)
    for key, value in found.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected[key], atol=0.1 * np.abs(expected[key]).max())


def test_what_a_network_does_not_give_is_said():
    encoder = ProHMR(gives_estimate=False)
    prohmr, hmr2 = (ImageNetwork({"weights": jnp.zeros(1)}, of) for of in (encoder, SMALL["hmr2"]))
    with pytest.raises(ValueError, match="prohmr: gives features, and no estimate"):
        prohmr.regress(jnp.zeros((1, 224, 224, 3)))
    with pytest.raises(ValueError, match="hmr2: gives estimates, and no features"):
        hmr2.features(jnp.zeros((1, 256, 256, 3)))


def test_a_description_brings_the_network_back():
    for name, kind in IMAGE_NETWORKS.items():
        assert image_network_of(describe_image_network(kind())) == kind()
        assert ImageNetwork({}, kind()).name == name
    with pytest.raises(ValueError, match=r"network: expected one of .*, found 'vgg'"):
        image_network_of({"network": "vgg"})
    with pytest.raises(ValueError, match=r"network prohmr.*absent: \['blocks'\]"):
        image_network_of({"network": "prohmr", "width": 64})


def test_pixels_are_normalised():
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[..., 0] = 255
    found = Crop(224).normalised(pixels)[0, 0, 0]
    np.testing.assert_allclose(found, [0.515 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-6)


def test_doubling_keeps_the_corners_and_straight_lines():
    ramp = np.arange(5.0, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 3, 2), np.float32)
    found = doubled(jnp.asarray(ramp))
    assert found.shape == (1, 10, 6, 2)
    expected = np.broadcast_to(np.linspace(0, 4, 10)[:, None, None], (10, 6, 2))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_gradients_by_the_picture_are_those_of_differences():
    # In float64, where a difference has digits to spare.
    from jax import enable_x64

    with enable_x64(True):
        network = nets.drawn(SMALL["hmr2"]).astype("float64")
        images = jax.random.normal(jax.random.key(0), (1, 256, 256, 3), jnp.float64)
        step = jax.random.normal(jax.random.key(1), images.shape, jnp.float64)

        @jax.jit
        @jax.value_and_grad
        def along(s):
            return jnp.sum(network.outputs(images + s * step)["pred_pose"] ** 3)

        _, slope = along(0.0)
        difference = (along(1e-5)[0] - along(-1e-5)[0]) / 2e-5
        np.testing.assert_allclose(slope, difference, rtol=1e-6)
