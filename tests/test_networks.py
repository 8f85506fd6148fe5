"""A network of one's own: a few lines, registered by one, and everything works with it."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import scene

from body_model import Skeleton, stand_in
from scorehmr_jax import Prior, RefineConfig, checkpoint, load_prior, refine, smooth
from scorehmr_jax.diffusion import named_schedule
from scorehmr_jax.networks.denoiser import ResidualMLP
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
    """What the loop, sampling and the energy make of it."""
    prior = Prior({"mean": mean}, named_schedule("cosine", 1000), None, GaussianNetwork(), "none")
    skeleton = Skeleton.of(stand_in())
    people = scene(skeleton, 3)

    @jax.jit
    def run(prior, estimate, key):
        config = RefineConfig(iterations=1, start=4, step=2)
        refined, info = refine(prior, skeleton, estimate, None, smooth(), config)
        near_and_far = jnp.stack([prior.params["mean"], -prior.params["mean"]])
        return refined, info, prior.sample(key, step=250), prior.energy(near_and_far, key)

    refined, info, drawn, energy = run(prior, people.estimate, jax.random.key(0))
    assert (np.asarray(info.status) == 0).all() and np.isfinite(refined.pose).all()
    assert np.abs(drawn - mean).std() < 1
    assert energy[0] < energy[1]


def test_a_network_that_is_not_registered_cannot_be_saved(tmp_path, mean):
    with pytest.raises(ValueError, match=r"NETWORKS\['a-name'\] = GaussianNetwork"):
        checkpoint.description(GaussianNetwork())


def test_a_file_that_names_an_unknown_network_is_refused(tmp_path, registered, mean, monkeypatch):
    path = tmp_path / "prior.npz"
    checkpoint.write(path, {"mean": mean}, checkpoint.description(GaussianNetwork()))
    monkeypatch.delitem(NETWORKS, "gaussian")
    with pytest.raises(ValueError, match=r"prior\.npz: .*expected one of .*found 'gaussian'"):
        load_prior(path)


@pytest.mark.parametrize(
    "network", [ResidualMLP(), ResidualMLP(0, 8, 1), ResidualMLP(3, 8, 1, 2, 4)]
)
def test_a_description_is_json_and_gives_the_network_back(network):
    assert network_of(json.loads(json.dumps(describe(network)))) == network


def test_files_older_than_the_names_hold_the_papers_denoiser():
    config = {"features": 5, "hidden": 6, "blocks": 2, "shape_features": 0, "shape_blocks": 2}
    assert network_of(config) == ResidualMLP(5, 6, 2)
    with pytest.raises(ValueError, match=r"absent: \['blocks'\]"):
        network_of({k: v for k, v in config.items() if k != "blocks"})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_registered_network_keeps_the_contract(name):
    sizes = {"residual-mlp": {"hidden": 8, "blocks": 1, "features": 4}}
    network = NETWORKS[name](**sizes.get(name, {}))
    assert hash(network) == hash(replace(network))
    assert network_of(json.loads(json.dumps(describe(network)))) == network
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.2, leaf.shape).astype("f4"), shapes)
    assert network.parameter_shapes() == {k: a.shape for k, a in flatten(params).items()}
    x, t = jnp.ones((2, network.dim)), jnp.array([0, 999])
    c = jnp.ones((2, network.condition_dim)) if network.condition_dim else None

    @jax.jit
    def forms(params, x, t, c):
        prepared = network.prepare(params)
        found = prepared(x, prepared.modulation(t), prepared.condition(c))
        return found, network.noise(params, x, t, c), network.training_noise(params, x, t, c)

    found, *others = forms(params, x, t, c)
    assert found.shape == x.shape
    for wanted in others:
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
