"""Batches from built sets: resident and streamed alike, resumed, shared out, and refused."""

import threading
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import released_layout

from scorehmr_jax.datasets.build import Given, build
from scorehmr_jax.datasets.feed import open_feed
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.datasets.samples import axis_angle_to_x


@pytest.fixture(scope="module")
def built(golden, tmp_path_factory):
    """Sets of the paper's second model: with features, with shape, and with estimates."""
    root = tmp_path_factory.mktemp("feed")
    data, sets = released_layout(golden, root), root / "sets"
    for name in MIXTURES["scorehmr-b"] | MIXTURES["scorehmr-b-shape"]:
        build(name, data, sets, quiet=True)
    estimates = Given(estimates=root / "cache/hmr2b/coco_train_eft.npz")
    build("coco/eft_none", data, sets, estimates, quiet=True)
    return sets


def mixture(folder, name="scorehmr-b"):
    return {folder / one: share for one, share in MIXTURES[name].items()}


@pytest.fixture(scope="module")
def feed(built):
    return open_feed(mixture(built), features=3072)


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def resident(feed, seed, batch):
    data, draw = feed.resident(seed, batch)
    draw = jax.jit(draw)
    return lambda step: draw(jnp.int32(step), data)


def test_resident_and_streamed_batches_are_the_same(feed):
    at = resident(feed, 3, 16)
    for step, batch in enumerate(islice(feed.stream(3, 16), 70)):
        same(batch, at(step))
    assert batch.x_0.shape == (16, 144) and batch.features.shape == (16, 3072)
    assert batch.features.dtype == jnp.bfloat16


def test_a_stream_goes_on_from_any_step(feed):
    whole = [*islice(feed.stream(0, 64), 12)]
    for start in (1, 7):
        for a, b in zip(islice(feed.stream(0, 64, start), 4), whole[start:], strict=False):
            same(a, b)
    assert (whole[0].x_0 != next(feed.stream(1, 64)).x_0).any()


def test_processes_stream_their_own_part(feed):
    whole = next(feed.stream(0, 32, 5))
    parts = [next(feed.stream(0, 32, 5, i, 4)) for i in range(4)]
    same(jax.tree.map(lambda *p: np.concatenate(p), *parts), whole)
    rows = [feed.batch_indices(0, 5, 32, i, 4) for i in range(4)]
    same(feed.read(np.concatenate(rows)), whole)


def test_batches_hold_the_fits_by_weight(feed, built):
    batch = next(feed.stream(0, 100))
    fits = np.load(built.parent / "data/datasets/h36m_train_mosh.npz")
    of_h36m = np.isclose(batch.x_0[:, None], axis_angle_to_x(fits["body_pose"]), atol=1e-6)
    assert of_h36m.all(-1).any(-1).sum() == 50


def test_the_whole_set_may_be_spread_over_a_mesh(feed):
    mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    data, draw = feed.resident(0, 8, sharding)
    assert data.x_0.sharding == sharding
    same(jax.jit(draw)(jnp.int32(2), data), next(feed.stream(0, 8, 2)))


def test_shape_follows_pose_in_its_range(built, golden):
    sets = mixture(built, "scorehmr-b-shape")
    stats = golden / "pack/betas_stats_eft_fits.npz"
    feed = open_feed(sets, features=4608, with_shape=True, betas_stats=stats)
    batch = next(feed.stream(0, 16))
    assert batch.x_0.shape == (16, 154) and batch.features.shape == (16, 4608)
    same(batch, resident(feed, 0, 16)(0))
    low, high = (np.load(stats)[f"betas_{end}"] for end in ("min", "max"))
    first = feed.sets[0].read(np.arange(5), ["betas"])["betas"]
    expected = 2 * (first - low) / (high - low) - 1
    np.testing.assert_allclose(feed.read(np.arange(5)).x_0[:, 144:], expected, atol=1e-5)
    own = open_feed(sets, with_shape=True)  # without a file, the sets' own range
    every = own.read(np.arange(len(own))).x_0[:, 144:]
    np.testing.assert_allclose([every.min(0), every.max(0)], [[-1] * 10, [1] * 10], atol=1e-5)


def test_validation_has_the_end_of_every_set_and_training_the_rest(built):
    sets = mixture(built)
    whole, train, held_out = (open_feed(sets, part=part) for part in ("all", "train", "validation"))
    assert [*map(len, held_out.sets)] == [1, 1, 1] and len(train) == len(whole) - 3
    for a, b, c in zip(whole.sets, train.sets, held_out.sets, strict=True):
        every = a.read(np.arange(len(a)), ["pose"])["pose"]
        parts = [s.read(np.arange(len(s)), ["pose"])["pose"] for s in (b, c)]
        np.testing.assert_array_equal(np.concatenate(parts), every)


def test_estimates_and_poses_alone(built):
    path = built / "coco/eft_none"
    estimate = open_feed({path: 1.0}, condition="estimate", features=144)
    alone = open_feed({path: 1.0}, condition="none")
    a, b = (next(f.stream(0, 8)) for f in (estimate, alone))
    np.testing.assert_array_equal(a.x_0, b.x_0)
    assert a.features.shape == (8, 144) and b.features is None
    same(a, resident(estimate, 0, 8)(0))
    same(b, resident(alone, 0, 8)(0))


def test_the_way_in_is_chosen_by_size(feed):
    assert feed.nbytes == len(feed) * (144 * 4 + 3072 * 2)
    assert feed.choose() == "resident"
    assert feed.choose(free=feed.nbytes) == "stream"
    assert feed.choose(free=2 * feed.nbytes) == "resident"
    assert feed.choose("stream") == "stream"
    with pytest.raises(ValueError, match="expected auto, resident or stream, found 'disk'"):
        feed.choose("disk")


def test_a_stream_stops_reading_when_it_is_dropped(feed):
    before = threading.active_count()
    stream = feed.stream(0, 8)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_damaged_shard_is_named(built, golden, tmp_path):
    data = released_layout(golden, tmp_path)
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    (shard,) = folder.glob("*array_record*")
    whole = shard.read_bytes()
    damaged = bytearray(whole)
    for i in range(70_000, len(whole) - 140_000, 1000):
        damaged[i] ^= 255
    for content in (bytes(damaged), whole[: len(whole) // 2], b""):
        shard.write_bytes(content)
        feed = open_feed({folder: 1.0})
        with pytest.raises(ValueError, match=rf"{shard}: a damaged shard.*build the set again"):
            feed.resident(0, 8)
        with pytest.raises(ValueError, match="a damaged shard"):
            [*islice(feed.stream(0, 8), 40)]
    shard.unlink()
    with pytest.raises(ValueError, match=r"no such file, but the set has it"):
        open_feed({folder: 1.0})
    (folder / "features.json").write_text("{")
    with pytest.raises(ValueError, match=r"not a whole training set"):
        open_feed({folder: 1.0})


def test_sets_that_do_not_belong_together_are_refused(built, golden, tmp_path):
    first, *_ = mixture(built)
    with pytest.raises(ValueError, match=r"expected 2048 numbers of features .*found 3072"):
        open_feed({first: 1.0}, features=2048)
    with pytest.raises(ValueError, match=r"expected 3072 numbers of features .*found 4608"):
        open_feed({first: 1.0, f"{first}_shape": 1.0})
    with pytest.raises(ValueError, match=r"eft_none.*: expected a set with features; it holds"):
        open_feed({first: 1.0, built / "coco/eft_none": 1.0})
    with pytest.raises(ValueError, match=r"h36m: expected one training set .*found mosh_pare/1"):
        open_feed({built / "h36m": 1.0})
    with pytest.raises(ValueError, match="expected weights above 0"):
        open_feed({first: 0.0})
    with pytest.raises(ValueError, match="condition: expected one of features"):
        open_feed({first: 1.0}, condition="images")


def test_statistics_of_another_backbone_are_refused(built, golden, tmp_path):
    first = next(iter(mixture(built)))
    path = golden / "pack/pare_feat_stats.npz"
    open_feed({first: 1.0}, statistics=path)
    other = dict(np.load(path))
    other["pose_feats_mean"] = other["pose_feats_mean"] + 0.1
    np.savez(tmp_path / "stats.npz", **other)
    with pytest.raises(ValueError, match=r"standardised with other statistics than .*stats.npz"):
        open_feed({first: 1.0}, statistics=tmp_path / "stats.npz")
    np.savez(tmp_path / "prohmr.npz", mean=np.zeros(2048), std=np.ones(2048))
    with pytest.raises(ValueError, match=r"prohmr.npz: the key 'pose_feats_mean' is"):
        open_feed({first: 1.0}, statistics=tmp_path / "prohmr.npz")
    # Two sets of one mixture: a little off is not plainly another backbone, but they differ.
    data = released_layout(golden, tmp_path)
    stats = Given(statistics=tmp_path / "stats.npz")
    coco = build("coco", data, tmp_path / "sets", stats, quiet=True)
    with pytest.raises(ValueError, match=rf"{coco}: .*other statistics than those of .*h36m"):
        open_feed({first: 0.5, coco: 0.5})


def test_both_ways_train_alike(feed):
    data, draw = feed.resident(0, 16)

    def step(weights, batch):
        def loss(weights):
            return ((batch.features.astype(np.float32) @ weights - batch.x_0) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(weights)
        return weights - 0.01 * gradient, value

    fresh = jnp.zeros((3072, 144))
    scanned = jax.jit(
        lambda weights, data: jax.lax.scan(
            lambda w, i: step(w, draw(i, data)), weights, jnp.arange(6)
        )[1]
    )
    one, weights, streamed = jax.jit(step), fresh, []
    for batch in islice(feed.stream(0, 16), 6):
        weights, loss = one(weights, batch)
        streamed.append(loss)
    assert streamed[-1] < streamed[0]
    np.testing.assert_allclose(streamed, scanned(fresh, data), rtol=1e-5)


def test_a_set_is_found_below_a_folder(built):
    assert len(open_feed({built / "coco/eft_none": 1.0}, condition="none")) == 36
    with pytest.raises(ValueError, match=r"nowhere: expected one training set .*found none"):
        open_feed({Path("nowhere"): 1.0})
