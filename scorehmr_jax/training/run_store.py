"""Checkpoints of a run: written while it trains, whole or not at all, kept and resumed.

A run's folder holds `checkpoints/<step>/`, each an Orbax checkpoint of three items: `train`
(weights, optimiser, step), `ema` (the averaged weights, for use), `run` (configuration, PRNG key,
versions of the software). A run draws from the key and the step alone, so that its position in the
data needs no saving. Arrays are saved from, and restored to, any number of devices and processes.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

from body_model.files import local_path
from body_model.pytree import Array
from scorehmr_jax.provenance import versions
from scorehmr_jax.training.step import TrainState


class RunStore:
    """Keeps the checkpoints of one run.

    Args:
        workdir: the run's folder.
        config: the run's configuration: names and values, such as JSON can hold.
        keep: number of the last checkpoints that are kept.
        best: name of a metric; the checkpoint with its least value is kept beside them.
        renamed: changes a saved configuration to the names that fields have today.
    Raises:
        ValueError: if the folder cannot be written.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: Mapping[str, Any],
        keep: int = 3,
        best: str | None = None,
        renamed: Callable[[dict[str, Any]], dict[str, Any]] = lambda saved: saved,
    ) -> None:
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        self.directory = local_path(workdir).absolute() / "checkpoints"
        # Through JSON, as it will be read: tuples come back as lists.
        self._config = json.loads(json.dumps(dict(config)))
        self._best, self._renamed = best, renamed

        def score(metrics: Mapping[str, float]) -> float:
            return metrics[best or ""]

        policy = policies.LatestN(keep)
        if best is not None:
            first = policies.BestN(
                get_metric_fn=score, reverse=True, n=1, keep_checkpoints_without_metrics=False
            )
            policy = policies.AnyPreservationPolicy([policy, first])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            # Without this, metrics are not written, and a resumed run does not know them.
            best_fn=None if best is None else score,
            best_mode="min",
            # Removes checkpoints that a killed process had begun to write.
            cleanup_tmp_directories=True,
        )
        handlers = {
            "train": ocp.PyTreeCheckpointHandler(),
            "ema": ocp.PyTreeCheckpointHandler(),
            "run": ocp.JsonCheckpointHandler(),
        }
        try:
            self._manager = ocp.CheckpointManager(
                self.directory, options=options, item_handlers=handlers
            )
        except OSError as error:
            raise ValueError(f"{self.directory}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def last(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, key: Key[Array, ""], metrics: Mapping[str, float] | None = None
    ) -> None:
        """Begins to write a checkpoint and returns as soon as the state may change again.

        Args:
            state: of a step that was not saved yet; nothing is done for one that was.
            key: PRNG key from which the run draws.
            metrics: figures by name, the one called `best` among them.
        Raises:
            ValueError: if this checkpoint, or the one before it, could not be written. Those
                written earlier are intact.
        """
        import orbax.checkpoint as ocp

        step = int(state.step)
        train = {"params": state.params, "opt_state": state.opt_state, "step": state.step}
        run = {
            "config": self._config,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "key_impl": str(jax.random.key_impl(key)),
            "written_by": versions(),
        }
        found = {} if self._best is None else {self._best: (metrics or {}).get(self._best)}
        try:
            if step in self._manager.all_steps():
                return
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    train=ocp.args.PyTreeSave(train),
                    ema=ocp.args.PyTreeSave(state.ema),
                    run=ocp.args.JsonSave(run),
                ),
                metrics=None if None in found.values() else found or None,
            )
        except Exception as error:
            raise self._not_written(error) from error

    def wait(self) -> None:
        """Waits until everything is on disk; raises as `save`."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._not_written(error) from error

    def _not_written(self, error: Exception) -> ValueError:
        whole = [path.parent.name for path in self.directory.glob("*/_CHECKPOINT_METADATA")]
        steps = ", ".join(map(str, sorted(int(name) for name in whole if name.isdecimal())))
        return ValueError(
            f"{self.directory}: a checkpoint could not be written ({type(error).__name__}: "
            f"{str(error)[:300]}); whole ones: {steps or 'none'}. Free space there and start "
            "again to go on"
        )

    def resume(
        self, like: TrainState, accept_changes: bool = False
    ) -> tuple[TrainState, Key[Array, ""]] | None:
        """Reads the newest whole checkpoint.

        A checkpoint that proves damaged is moved aside, with a warning, and the one before taken.

        Args:
            like: arrays or shapes of a state, with the shardings that the result shall have.
            accept_changes: go on although the configuration is another than the saved one.
        Returns:
            The state, and the key that the run drew from; None if there is no checkpoint.
        Raises:
            ValueError: naming the fields in which the configuration differs; or if no checkpoint
                can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                run, shapes = self._run(step), self._shapes(step)
            except Exception as error:
                self._set_aside(step, error)
                continue
            changes = differences(self._renamed(run["config"]), self._config)
            if changes and not accept_changes:
                raise ValueError(
                    f"{self.directory / str(step)}: was saved with another configuration\n  "
                    + "\n  ".join(changes)
                    + "\nTake the old values or another --workdir; or, to go on with the new ones, "
                    "give --accept-changes"
                )
            self._check_shapes(step, shapes, like)
            try:
                state = self._arrays(step, like)
            except Exception as error:
                self._set_aside(step, error)
                continue
            data = jnp.asarray(run["key"], jnp.uint32)
            return state, jax.random.wrap_key_data(data, impl=run["key_impl"])
        if steps:
            raise ValueError(f"{self.directory}: none of the checkpoints {steps} can be read")
        return None

    def _run(self, step: int) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))[
            "run"
        ]

    def _arrays(self, step: int, like: TrainState) -> TrainState:
        import orbax.checkpoint as ocp

        def item(tree: Any) -> Any:
            target = jax.tree.map(_abstract, tree)
            arguments = ocp.checkpoint_utils.construct_restore_args(target)
            return ocp.args.PyTreeRestore(target, restore_args=arguments)

        train = {"params": like.params, "opt_state": like.opt_state, "step": like.step}
        found = self._manager.restore(
            step, args=ocp.args.Composite(train=item(train), ema=item(like.ema))
        )
        train = found["train"]
        return TrainState(train["params"], found["ema"], train["opt_state"], train["step"])

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Reads the shapes of the saved average's arrays, by name."""
        tree = self._manager.item_metadata(step)["ema"].tree
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree, lambda x: hasattr(x, "shape"))
        return {_name(path): tuple(leaf.shape) for path, leaf in leaves}

    def _check_shapes(
        self, step: int, found: Mapping[str, tuple[int, ...]], like: TrainState
    ) -> None:
        """Refuses weights of another network; they are sound, but cannot be gone on with."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(like.ema)
        expected = {_name(path): tuple(leaf.shape) for path, leaf in leaves}
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                raise ValueError(
                    f"{self.directory / str(step)}: ema/{name}: expected shape "
                    f"{expected.get(name)}, found {found.get(name)}; weights of another network "
                    "cannot be resumed: choose another --workdir"
                )

    def _set_aside(self, step: int, error: Exception) -> None:
        path = self.directory / str(step)
        reason = f"damaged ({type(error).__name__}: {str(error)[:200]})"
        # Other processes may have read it without error, and all must hold the same state.
        if jax.process_count() > 1:
            raise ValueError(f"{path}: {reason}; remove it to go on from the one before") from error
        aside = self.directory.parent / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        self._manager.reload()
        warnings.warn(f"{path}: {reason}; moved to {aside}, going on without it", stacklevel=3)


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names each field in which two configurations differ, with both values; one line for each."""
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    return [f"{n}: saved {saved.get(n, 'nothing')}, now {now.get(n, 'nothing')}" for n in names]


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
