"""Data of a run, to train on and to validate on: motion capture, or built training sets."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

import body_model
from body_model import Skeleton
from body_model.files import read_npz, write_npz
from body_model.pytree import Array
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax import cluster
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.pairs import augment_pairs, simulate_pairs
from scorehmr_jax.training.run import Resident, Stream
from scorehmr_jax.training.sharding import Placement

_MAIN = "mocap_poses.npz"


@dataclass(frozen=True)
class RunData:
    """Poses to train on and to validate on."""

    training: Resident | Stream
    validation: TrainingBatch
    # Facts that must still hold when a run goes on, or it would draw other samples than before.
    facts: dict[str, Any] = field(default_factory=dict)
    # [2, 10] least and greatest shape numbers, for a prior with shape
    betas_range: list[list[float]] | None = None


def from_mocap(
    folder: Path,
    workdir: Path,
    batch: int,
    *,
    estimates_per_frame: int = 0,
    jitter: float = 0.0,
    leave_out: tuple[str, ...] = (),
    more: tuple[tuple[str, float], ...] = (),
    roll: float = 0.0,
) -> RunData:
    """Puts motion capture before random cameras, drawn anew in every step.

    Args:
        folder: of mocap_poses.npz and the files of `more`.
        workdir: of the run; simulated estimates are kept there.
        batch: samples in a step.
        estimates_per_frame: number of simulated regressor outputs, which become the features; 0
            for a prior without a condition.
        jitter: standard deviation of random turns of every joint, per axis, radians.
        leave_out: sources of clips that are not trained on.
        more: names of more files of motion capture, and the share of a batch that each is.
        roll: standard deviation of another roll of the camera in half of the samples, degrees.
    Returns:
        The poses of the train splits, and of the validation split of mocap_poses.npz.
    Raises:
        ValueError: naming the file, if it is missing or not motion capture.
    """

    def poses_of(split: str, name: str = _MAIN) -> TrainingBatch:
        frames = mocap.read(folder / name).select(split, leave_out if split == "train" else ())
        if estimates_per_frame:
            of = "" if name == _MAIN else f"{Path(name).stem}_"
            path = workdir / f"pairs_{of}{split}.npz"
            return _pairs(path, split, frames.poses, estimates_per_frame)
        rotations = axis_angle_to_matrix(jnp.asarray(frames.poses))
        return TrainingBatch(rotations_to_x(rotations), None)

    def draw(key: Key[Array, ""], step: Int[Array, ""], data: TrainingBatch) -> TrainingBatch:
        del step  # every step has a key of its own
        key_index, key_augment, key_jitter = jax.random.split(key, 3)
        index = _drawn(key_index, batch, sizes, shares)
        drawn = _augmented(key_augment, jax.tree.map(lambda x: x[index], data))
        if jitter:
            drawn = replace(drawn, x_0=mocap.jitter(key_jitter, drawn.x_0, jitter))
        if roll:
            drawn = _rolled(jax.random.fold_in(key, 1), drawn, roll)
        return drawn

    sets = [poses_of("train"), *(poses_of("train", name) for name, _ in more)]
    sizes, shares = [len(each.x_0) for each in sets], [share for _, share in more]
    train = jax.tree.map(lambda *each: jnp.concatenate(each), *sets)
    validation = poses_of("val")
    facts = {"data.poses": len(train.x_0)}
    return RunData(Resident(train, draw), _augmented(jax.random.key(1), validation), facts)


def _pairs(
    path: Path, split: str, poses: Float[np.ndarray, "N 24 3"], estimates_per_frame: int
) -> TrainingBatch:
    """Reads simulated estimates of poses; the first process makes them if they are not there."""
    digest = hashlib.sha256(poses.tobytes()).hexdigest()[:16]
    made_from = f"{digest}, {estimates_per_frame} per frame"
    if cluster.is_main() and not (path.exists() and _are_of(path, made_from)):
        print(f"simulating a regression network on the {split} split", flush=True)
        key = jax.random.key(["train", "val"].index(split))
        skeleton = Skeleton.of(body_model.open_body())
        true, estimated = simulate_pairs(key, skeleton, poses, estimates_per_frame)
        write_npz(path, {"true": true, "estimated": estimated, "made_from": np.array(made_from)})
    cluster.wait_for_all(path.name)
    pairs = read_npz(path)
    return TrainingBatch(jnp.asarray(pairs["true"]), jnp.asarray(pairs["estimated"]))


def _are_of(path: Path, made_from: str) -> bool:
    # Files of earlier versions lack this key; their runs go on with what they have.
    return str(read_npz(path, ["made_from"]).get("made_from", made_from)) == made_from


def _drawn(
    key: Key[Array, ""], batch: int, sizes: list[int], shares: list[float]
) -> Int[Array, " {batch}"]:
    """Draws samples of sets that lie one behind the other; the first has no share of its own."""
    if not shares:
        return jax.random.randint(key, (batch,), 0, sizes[0])
    key_set, key_index = jax.random.split(key)
    ends, bounds = np.cumsum(sizes), np.cumsum([1 - sum(shares), *shares[:-1]])
    which = jnp.searchsorted(jnp.asarray(bounds), jax.random.uniform(key_set, (batch,)), "right")
    first = jnp.asarray(ends - sizes)[which]
    return jax.random.randint(key_index, (batch,), first, jnp.asarray(ends)[which])


def _rolled(key: Array, batch: TrainingBatch, sigma: float) -> TrainingBatch:
    if batch.features is None:
        return replace(batch, x_0=mocap.roll(key, sigma, batch.x_0)[0])
    x_0, features = mocap.roll(key, sigma, batch.x_0, batch.features)
    return TrainingBatch(x_0, features)


def _augmented(key: Array, batch: TrainingBatch) -> TrainingBatch:
    if batch.features is None:
        return TrainingBatch(mocap.augment(key, batch.x_0), None)
    return TrainingBatch(*augment_pairs(key, batch.x_0, batch.features))


def from_sets(
    folder: Path,
    mixture: Mapping[str, float],
    batch: int,
    seed: int,
    placement: Placement,
    *,
    condition_on: str,
    width: int,
    with_shape: bool = False,
    feed: str = "auto",
    feature_stats: Path | None = None,
    betas_stats: Path | None = None,
) -> RunData:
    """Opens training sets that `scorehmr build-data` has built.

    Args:
        folder: the sets are in it.
        mixture: names of the sets, and how often each is drawn.
        batch: samples in a step, over all processes.
        seed: of the order of samples.
        placement: of the run.
        condition_on: as `Prior.condition_on`.
        width: numbers to condition on, per sample.
        with_shape: the prior has a shape stream.
        feed: "resident" puts all samples on every device, "stream" reads them as training goes,
            "auto" chooses by the memory that is free.
        feature_stats: .npz that the sets must have been standardised with; checked if given.
        betas_stats: .npz with the range of the shape numbers; the sets' own by default.
    Returns:
        All samples to train on, but for a hundredth of every set, which is validated on.
    Raises:
        ValueError: naming the set, if one is missing, damaged or not what is expected.
        ImportError: if TFDS or ArrayRecord is not installed.
    """
    from scorehmr_jax.datasets.feed import open_feed

    train, held_out = (
        open_feed(
            {folder / name: share for name, share in mixture.items()},
            condition=condition_on,
            features=width or None,
            statistics=feature_stats,
            with_shape=with_shape,
            betas_stats=betas_stats,
            part=part,
        )
        for part in ("train", "validation")
    )
    betas_range = None
    if train.betas_range is not None:
        betas_range = [np.asarray(end, np.float32).tolist() for end in train.betas_range]
    facts = {
        f"data.{name}": {"samples": len(records), "statistics": records.notes.get("statistics")}
        for name, records in zip(mixture, train.sets, strict=True)
    }
    validation = held_out.read(np.arange(len(held_out)))
    if validation.features is not None:
        features = np.asarray(validation.features, np.float32)
        validation = TrainingBatch(validation.x_0, jnp.asarray(features))
    # Processes differ in free memory, but must run one program.
    if cluster.all_agree(train.choose(feed) == "resident"):
        data, draw = train.resident(seed, batch, placement.whole)
        resident = Resident(data, lambda key, step, data: draw(step, data))
        return RunData(resident, validation, facts, betas_range)

    def batches(start: int) -> Iterator[TrainingBatch]:
        return train.stream(seed, batch, start, jax.process_index(), jax.process_count())

    return RunData(Stream(batches), validation, facts, betas_range)
