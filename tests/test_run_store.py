"""Checkpoints of a run: whole or not at all, read as they were written."""

import os
from functools import cache, partial

import jax
import numpy as np
import pytest
from training_runs import (
    OPTIMIZER,
    draw_toy,
    elsewhere,
    toy_data,
    toy_state,
    toy_step,
)

from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.run import make_run
from scorehmr_jax.training.run_store import RunStore
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.step import TrainState, init_state

CONFIG = {"learning_rate": 3e-3, "ema.decay": 0.9, "leave_out": ("deepmimic",)}
PLACEMENT = Placement.of(jax.devices()[:1])
KEY = jax.random.key(7)


@cache
def three_steps():
    return make_run(toy_step(), draw_toy, 3, PLACEMENT)


@pytest.fixture(scope="module")
def states():
    """The toy after 3, 6, 9, 12 steps."""
    run, data = three_steps(), PLACEMENT.put(toy_data())
    state, found = toy_state(PLACEMENT), []
    for _ in range(4):
        state, _ = run(state, data, KEY)
        found.append(jax.tree.map(np.asarray, state))
    return [jax.tree.map(PLACEMENT.put, state) for state in found]


def store(path, config=CONFIG, **options):
    return RunStore(path, config, **options)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def steps_in(path):
    return sorted(int(name) for name in os.listdir(path / "checkpoints") if name.isdecimal())


def test_comes_back_as_it_was(tmp_path, states):
    with store(tmp_path) as first:
        assert first.last is None and first.resume(states[0]) is None
        first.save(states[0], KEY)
        first.save(states[0], KEY)  # again: nothing to do
    with store(tmp_path) as second:
        assert second.last == 3
        state, key = second.resume(states[3])
    assert_same(state, states[0])
    assert jax.random.key_data(key).tolist() == jax.random.key_data(KEY).tolist()
    assert os.listdir(tmp_path) == ["checkpoints"]


def test_the_state_may_change_while_it_is_written(tmp_path, states):
    run, data = three_steps(), PLACEMENT.put(toy_data())
    state = jax.tree.map(lambda x: x.copy(), states[0])
    with store(tmp_path) as first:
        first.save(state, KEY)
        run(state, data, KEY)  # takes over the buffers
    with store(tmp_path) as second:
        assert_same(second.resume(states[3])[0], states[0])


def test_the_last_and_the_best_are_kept(tmp_path, states):
    for start in (0, 2):  # the best is remembered by a resumed run
        with store(tmp_path, keep=1, best="val_loss") as each:
            for i, loss in enumerate([0.2, 0.5, None, 0.4]):
                if i >= start:
                    each.save(states[i], KEY, None if loss is None else {"val_loss": loss})
    assert steps_in(tmp_path) == [3, 12]


def test_averaged_weights_are_an_item_of_their_own(tmp_path, states):
    import orbax.checkpoint as ocp

    with store(tmp_path) as each:
        each.save(states[0], KEY)
    with ocp.PyTreeCheckpointer() as reader:
        ema = reader.restore(tmp_path / "checkpoints" / "3" / "ema")
    assert_same(ema, states[0].ema)


def test_changed_fields_are_named(tmp_path, states):
    with store(tmp_path) as each:
        each.save(states[0], KEY)
    changed = {"learning_rate": 1e-4, "leave_out": ("deepmimic",), "batch": 64}
    with store(tmp_path, changed) as each:
        with pytest.raises(ValueError) as error:
            each.resume(states[3])
        assert each.resume(states[3], accept_changes=True) is not None
    message = str(error.value)
    assert "checkpoints/3: was saved with another configuration" in message
    assert "learning_rate: saved 0.003, now 0.0001" in message
    assert "ema.decay: saved 0.9, now nothing" in message
    assert "batch: saved nothing, now 64" in message
    assert "leave_out" not in message and "--accept-changes" in message


def test_another_network_is_refused(tmp_path, states):
    with store(tmp_path) as each:
        each.save(states[0], KEY)
        wider = ResidualMLP(features=0, hidden=24, blocks=1)
        like = jax.eval_shape(partial(init_state, wider, OPTIMIZER), KEY)
        with pytest.raises(
            ValueError,
            match=r"3: ema/pose/blocks_0/linear1/bias: expected shape \(24,\), found \(16,\)",
        ):
            each.resume(like)
    assert steps_in(tmp_path) == [3]


def test_a_half_written_checkpoint_is_passed_over_and_cleared(tmp_path, states):
    with store(tmp_path) as each:
        each.save(states[0], KEY)
    whole = tmp_path / "checkpoints" / "3"
    # What is there when a process is killed before the last rename.
    half = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    os.makedirs(half / "ema")
    (half / "ema" / "manifest.ocdbt").write_bytes(b"half")
    with store(tmp_path) as each:
        assert each.last == 3
        assert_same(each.resume(states[3])[0], states[0])
        each.save(states[1], KEY)
    assert whole.exists() and not half.exists()
    assert steps_in(tmp_path) == [3, 6]


@pytest.mark.parametrize("part", ["train", "ema", "run"])
def test_a_damaged_checkpoint_is_set_aside(tmp_path, states, part):
    with store(tmp_path) as each:
        each.save(states[0], KEY)
        each.save(states[1], KEY)
    for file in (tmp_path / "checkpoints" / "6" / part).rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with store(tmp_path) as each:
        with pytest.warns(UserWarning, match=r"6: damaged .* moved to .*damaged-6"):
            state, _ = each.resume(states[3])
        assert_same(state, states[0])
        each.save(states[1], KEY)  # the same step again
    assert steps_in(tmp_path) == [3, 6] and (tmp_path / "damaged-6").exists()
    for step in ("3", "6"):
        (tmp_path / "checkpoints" / step / "run" / "metadata").write_text("{")
    unreadable = pytest.raises(ValueError, match=r"none of the checkpoints \[6, 3\] can be read")
    with store(tmp_path) as each, pytest.warns(UserWarning), unreadable:
        each.resume(states[3])


FULL_DISK = """
import json, resource, signal, sys
import jax
from test_run_store import CONFIG, KEY, PLACEMENT
from training_runs import toy_state
from scorehmr_jax.training.run_store import RunStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = toy_state(PLACEMENT)
with RunStore(sys.argv[1], CONFIG) as store:
    store.save(state, KEY)
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        from dataclasses import replace
        store.save(replace(state, step=state.step + 1), KEY)
        store.wait()
        message = ""
    except ValueError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(message))
"""


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_last_checkpoint_intact(tmp_path, states):
    message = elsewhere(FULL_DISK, tmp_path)
    assert "checkpoints: a checkpoint could not be written" in message
    assert "whole ones: 0." in message
    with store(tmp_path) as each:
        assert each.resume(states[3])[0].step == 0


OTHER_DEVICES = """
import json, sys
import jax, numpy as np
from test_run_store import CONFIG, KEY
from training_runs import draw_toy, toy_data, toy_state, toy_step
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.run import make_run
from scorehmr_jax.training.run_store import RunStore

placement = Placement.of(shard_parameters=True)
with RunStore(sys.argv[1], CONFIG) as store:
    state, key = store.resume(toy_state(placement))
    run = make_run(toy_step(), draw_toy, 3, placement)
    state, metrics = run(state, placement.put(toy_data()), key)
    kernel = state.opt_state[1][0].mu["pose"]["time2"]["kernel"]
    parts = len({shard.index[0].start for shard in kernel.addressable_shards})
    store.save(state, key)
print(json.dumps({"devices": len(jax.devices()), "parts": parts,
                  "losses": np.asarray(metrics["loss"]).tolist()}))
"""


@pytest.mark.slow
def test_goes_on_with_other_devices_and_parameters_in_parts(tmp_path, states):
    run, data = three_steps(), PLACEMENT.put(toy_data())
    with store(tmp_path) as each:
        each.save(states[0], KEY)
    found = elsewhere(OTHER_DEVICES, tmp_path, devices=8)
    assert found["devices"] == 8 and found["parts"] == 8
    _, metrics = run(jax.tree.map(lambda x: x.copy(), states[0]), data, KEY)
    np.testing.assert_allclose(found["losses"], metrics["loss"], rtol=1e-5)
    with store(tmp_path) as each:  # and back
        state, _ = each.resume(states[3])
    assert isinstance(state, TrainState)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, states[1])
