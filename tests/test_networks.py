"""A network of one's own: a few lines, registered by one, and everything works with it."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import scene

from body_model import Skeleton, stand_in
from scorehmr_jax import Prior, RefineConfig, checkpoint, load_prior, make_refiner, smooth
from scorehmr_jax.diffusion import named_schedule
from scorehmr_jax.networks import registry
from scorehmr_jax.networks.denoiser import Denoiser
from scorehmr_jax.networks.parameters import flatten
from scorehmr_jax.networks.protocol import POSE_DIM, Network
from scorehmr_jax.networks.registry import NETWORKS, describe, network_of


@dataclass(frozen=True)
class GaussianNetwork(Network):
    """Knows exactly the noise in poses that are normally distributed, all numbers alike."""

    spread: float = 0.3  # standard deviation of each number
    steps: int = 1000  # levels of the noise schedule

    dim = POSE_DIM
    condition_dim = 0

    def init(self, key):
        return {"mean": jax.random.normal(key, (POSE_DIM,))}

    def noise(self, params, x, t, features):
        a = jnp.asarray(named_schedule("cosine", self.steps).alphas_cumprod)[t][..., None]
        variance = a * self.spread**2 + 1 - a
        return jnp.sqrt(1 - a) / variance * (x - jnp.sqrt(a) * params["mean"])


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, "gaussian", GaussianNetwork)


@pytest.fixture(scope="module")
def mean():
    rng = np.random.default_rng(0)
    return rng.uniform(-0.8, 0.8, POSE_DIM).astype(np.float32)


@pytest.mark.parametrize("name", ["prior", "prior.npz", "prior.safetensors"])
def test_it_comes_back_from_a_file(tmp_path, registered, mean, name):
    network = GaussianNetwork(0.1, 500)
    config = checkpoint.description(network, schedule=("cosine", 500))
    checkpoint.write(tmp_path / name, {"mean": mean}, config)
    prior = load_prior(tmp_path / name)
    assert prior.network == network and prior.condition_on == "none"
    assert prior.schedule.num_steps == 500
    np.testing.assert_array_equal(prior.params["mean"], mean)


def test_the_loop_refines_with_it(mean):
    """A pose far from all that the network knows is drawn to it."""
    prior = Prior({"mean": mean}, named_schedule("cosine", 1000), None, GaussianNetwork(), "none")
    skeleton = Skeleton.of(stand_in())
    people = scene(skeleton, 3)
    refiner = make_refiner(prior, skeleton, RefineConfig(iterations=1, start=4, step=2))
    refined, info = refiner(people.estimate, None, smooth())
    assert (np.asarray(info.status) == 0).all()
    assert np.isfinite(refined.pose).all()
    assert prior.sample(jax.random.key(0), shape=(2,), step=250).shape == (2, POSE_DIM)
    assert prior.energy(jnp.asarray(mean), jax.random.key(0)) < prior.energy(
        jnp.asarray(-mean), jax.random.key(0)
    )


def test_a_network_that_is_not_registered_cannot_be_saved(tmp_path, mean):
    with pytest.raises(ValueError, match=r"NETWORKS\['a-name'\] = GaussianNetwork"):
        checkpoint.description(GaussianNetwork())


def test_a_file_that_names_an_unknown_network_is_refused(tmp_path, registered, mean, monkeypatch):
    path = tmp_path / "prior.npz"
    checkpoint.write(path, {"mean": mean}, checkpoint.description(GaussianNetwork()))
    monkeypatch.delitem(NETWORKS, "gaussian")
    with pytest.raises(ValueError, match=r"prior\.npz: .*expected one of .*found 'gaussian'"):
        load_prior(path)


@pytest.mark.parametrize("network", [Denoiser(), Denoiser(0, 8, 1), Denoiser(3, 8, 1, 2, 4)])
def test_a_description_is_json_and_gives_the_network_back(network):
    assert network_of(json.loads(json.dumps(describe(network)))) == network


def test_files_older_than_the_names_hold_the_papers_denoiser():
    config = {"features": 5, "hidden": 6, "blocks": 2, "shape_features": 0, "shape_blocks": 2}
    assert network_of(config) == Denoiser(5, 6, 2)
    with pytest.raises(ValueError, match=r"absent: \['blocks'\]"):
        network_of({k: v for k, v in config.items() if k != "blocks"})


def test_every_registered_network_keeps_the_contract():
    for name, kind in registry.NETWORKS.items():
        network = kind(hidden=8, blocks=1, features=4) if kind is Denoiser else kind()
        assert hash(network) == hash(replace(network)), name
        params = jax.jit(network.init)(jax.random.key(0))
        shapes = {k: np.shape(v) for k, v in flatten(params).items()}
        assert network.parameter_shapes() == shapes
        x, t = jnp.ones((2, network.dim)), jnp.array([0, 999])
        c = jnp.ones((2, network.condition_dim)) if network.condition_dim else None
        prepared = network.prepare(params)
        found = prepared(x, prepared.modulation(t), prepared.condition(c))
        for wanted in (network.noise(params, x, t, c), network.training_noise(params, x, t, c)):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
