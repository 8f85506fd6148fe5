"""JAX's own switches: strict promotion, guarded transfers, exported programs, meshes.

Under a switch that concerns tracing, nothing is compiled.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from bodies import small_prior
from compiling import xla_flags
from jax import export
from refining import N, evidence, parts, same, tree

from body_model import stand_in
from scorehmr_jax.camera import crop_to_full, in_front, pinhole, project
from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.stopping import RoundStop, StepStop
from scorehmr_jax.types import Keypoints2D
from scorehmr_jax.variations import best_of, varied_estimates

CONFIG = replace(refining.CONFIG, iterations=1)


@pytest.fixture(scope="module")
def skeleton():
    return refining.skeleton()


@pytest.fixture(scope="module")
def prior():
    return refining.prior()


@pytest.fixture(scope="module")
def people():
    return refining.people()


def low(hypothesis):
    return hypothesis.noise_std * jnp.abs(hypothesis.translation[..., 1])


def every_term(keypoints, camera):
    return (
        keypoints_2d(keypoints, camera, sigma=np.full(N, 50.0)),
        weighted(np.arange(N), smooth()),
        multiview(weight=2),
        weighted(1.0, low),
        low,
    )


@contextmanager
def strictly():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


# Two guesses for each sample, whose evidence is given once.
@pytest.mark.parametrize("fit", [None, DenoisedFit(steps=4, highest=6, lowest=2)])
@pytest.mark.parametrize(("guesses", "stop"), [((), StepStop()), ((2,), RoundStop())])
def test_strict_promotion_and_ranks(skeleton, prior, people, guesses, stop, fit):
    estimate, features, keypoints, camera = parts(people)
    pose = jnp.broadcast_to(estimate.pose, (*guesses, *estimate.pose.shape))
    estimate = replace(estimate, pose=pose)
    config = replace(CONFIG, stop=stop, denoised_fit=fit)

    def total(prior, estimate, features, keypoints, camera):
        terms = every_term(keypoints, camera)
        refined, info = refine(prior, skeleton, estimate, features, terms, config, np.ones(N, bool))
        if guesses:
            refined, _ = best_of(refined, info)
        return jnp.sum(refined.pose) + jnp.sum(refined.translation), info

    given = prior, estimate, features, keypoints, camera
    with strictly():
        slopes, info = jax.eval_shape(jax.grad(total, (0, 1, 2), has_aux=True), *given)
    assert slopes[1].pose.shape == (*guesses, N, 24, 3, 3)
    assert info.losses.shape == (3 + (fit.steps if fit else 0), *guesses, N)


def test_strict_promotion_with_a_shape_model(skeleton, people):
    prior = small_prior(8, shape_features=4)
    estimate, features, keypoints, camera = parts(people)
    with strictly():
        refined, _ = jax.eval_shape(
            lambda: refine(
                prior,
                skeleton,
                estimate,
                jnp.concatenate([features, features[:, :4]], -1),
                every_term(keypoints, camera),
                CONFIG,
            )
        )
    assert refined.betas.shape == (N, 10)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_strict_promotion_of_mixed_precisions(skeleton, dtype):
    """Arguments of several precisions: the result has the widest, as under JAX's own rules."""
    for half in (jnp.float16, jnp.bfloat16):
        widest = jnp.promote_types(dtype, half)
        with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
            pose = jnp.zeros((2, 24, 3), dtype)
            betas = jnp.zeros((2, 10), half)
            found = jax.eval_shape(skeleton, pose, betas)
            assert found.dtype == np.promote_types(dtype, np.float32)
            found = jax.eval_shape(stand_in().joints, pose, betas)
            assert found.dtype == np.promote_types(dtype, np.float32)
            low = tree(lambda a, half=half: jnp.asarray(a, half), skeleton)
            assert jax.eval_shape(low, pose, betas).dtype == widest


def test_strict_promotion_where_64_bits_are_enabled(skeleton, prior, people):
    estimate, features, keypoints, camera = parts(people)
    estimate = tree(lambda a: jnp.stack([a, a]), estimate)

    def run():
        terms = every_term(keypoints, camera)
        refined, info = refine(prior, skeleton, estimate, features, terms, CONFIG)
        return best_of(refined, info)[0]

    with strictly(), jax.enable_x64(True):
        assert jax.eval_shape(run).pose.dtype == np.float32
        jax.eval_shape(prior.network.init, jax.random.key(0))


def test_strict_promotion_elsewhere(skeleton, prior, people):
    estimate, features, keypoints, camera = parts(people)
    whole = Keypoints2D(jnp.round(keypoints.xy).astype(int), keypoints.confidence > 0.5)
    with strictly():  # optax' Adam, the baseline's, knows neither switch
        every_term(whole, tree(lambda a: a[0].astype(int), camera))
        varied_estimates(jax.random.key(0), prior, estimate, features, 2, start=20)
        size = np.array([[640, 480]] * 2)
        for focal in (1000, np.array([500, 600]), np.full((2, 2), 500.0, np.float32)):
            one = pinhole(size, focal)
            crop_to_full(np.ones((2, 3), np.float32), size, 200, size[0], focal)
        points = np.ones((2, 5, 3), np.float32)
        project(points, one)
        project(points, tree(lambda a: a[0], one))
        in_front(points)


def test_a_refiner_moves_nothing_to_the_device_at_its_second_call(skeleton, prior, people):
    estimate, features = people.estimate, people.features
    run = make_refiner(prior, skeleton, CONFIG)
    terms = [*evidence(people), low]
    mask = jnp.ones(N, bool)
    with_mask, without = (run(estimate, features, terms, m) for m in (mask, None))
    with jax.transfer_guard_host_to_device("disallow"):
        again = run(estimate, features, terms, mask)
        run(estimate, features, terms)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            run(tree(np.asarray, estimate), features, terms, mask)
    same(again[0], with_mask[0], atol=0)
    same(again[0], without[0], atol=1e-6)


def test_a_refinement_is_exported_to_a_file_and_read_back(tmp_path, skeleton, prior, people):
    def run(prior, estimate, features, terms, mask):
        return refine(prior, skeleton, estimate, features, terms, CONFIG, mask)

    estimate, features = people.estimate, people.features
    terms = (*evidence(people, 30.0), weighted(2.0, multiview()))
    given = prior, estimate, features, terms, np.arange(N) != 1
    file = tmp_path / "refine.bin"
    file.write_bytes(export.export(jax.jit(run))(*given).serialize())
    read = export.deserialize(bytearray(file.read_bytes()))
    refined, info = read.call(*given)
    ours = make_refiner(prior, skeleton, CONFIG)
    wanted, wanted_info = ours(*given[1:])
    assert type(refined) is type(wanted) and type(info) is type(wanted_info)
    same(refined, wanted)
    np.testing.assert_array_equal(info.status, wanted_info.status)


# Of four simulated devices. The number of them is settled when JAX starts.
DEVICES = """
import sys
from dataclasses import replace
from functools import partial

sys.path.insert(0, sys.argv[1])
import jax
import jax.numpy as jnp
import numpy as np
import refining
from bodies import scene
from jax.sharding import AxisType, PartitionSpec as P
from refining import N, parts, same, tree

from body_model import Skeleton, stand_in
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.stopping import StepStop

assert jax.device_count() == 4
prior, skeleton = refining.prior(), Skeleton.of(stand_in(), ("nose", "pelvis", "left_wrist"))
config = replace(refining.CONFIG, iterations=2, stop=StepStop(0.05))
people = scene(skeleton, 8)
alone = make_refiner(prior, skeleton, config)
terms = lambda keypoints, camera: (keypoints_2d(keypoints, camera), smooth(), multiview())

# Four groups of two: a group lies on a device.
groups = tree(lambda a: a.reshape(4, 2, *a.shape[1:]), parts(people))
mask = jnp.array([[True, True]] * 3 + [[True, False]])
wanted, wanted_info = alone(*groups[:2], terms(*groups[2:]), mask)


def run(estimate, features, keypoints, camera, mask):
    return refine(prior, skeleton, estimate, features, terms(keypoints, camera), config, mask)


def check(name, found, info):
    same(found, wanted)
    np.testing.assert_array_equal(info.status, wanted_info.status)
    np.testing.assert_array_equal(info.stop_step, wanted_info.stop_step)
    print(name, found.pose.sharding.spec[0])


with jax.set_mesh(jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))):
    spread = jax.device_put((*groups, mask), P("d"))
    check("explicit", *jax.jit(run)(*spread))
    check("refiner", *alone(*spread[:2], terms(*spread[2:4]), spread[4]))

mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
info_specs = replace(wanted_info, status=P("d"), stop_step=P("d"), losses=P(None, "d"))
mapped = jax.shard_map(run, mesh=mesh, in_specs=P("d"), out_specs=(P("d"), info_specs))
check("shard_map", *jax.jit(mapped)(*groups, mask))
"""


@pytest.fixture(scope="module")
def on_four_devices():
    here = Path(__file__).parent
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(4)}
    return subprocess.run(
        [sys.executable, "-c", DEVICES, str(here)],
        env={**os.environ, **environment},
        cwd=here.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("kind", ["explicit", "refiner", "shard_map"])
def test_four_devices_give_what_one_does(on_four_devices, kind):
    assert f"{kind} d" in on_four_devices.stdout.splitlines(), on_four_devices.stderr[-3000:]
