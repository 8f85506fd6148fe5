"""A method run on a case: on every device and process, in few shapes, measured before and after."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from scorehmr_jax import cluster
from scorehmr_jax.evaluation import batching, results
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.metric_table import METRICS, Metric, measure
from scorehmr_jax.refine import Refiner
from scorehmr_jax.types import Array, Estimate

_measured = jax.jit(measure, static_argnames=("table", "protocol"))


def default_batch() -> int:
    """Samples that a device refines at once."""
    return 32 if jax.default_backend() == "cpu" else 256


def run(
    case: Case,
    refiner: Refiner,
    features: Array | None = None,
    mode: str = "released",
    batch: int | None = None,
    metrics: Mapping[str, Metric] = METRICS,
) -> results.Results:
    """Refines and measures every sample of a case.

    A batch is the work of one device, by the same program whatever their number, so that the
    figures do not depend on it. Of several processes all have to call it; all get the results.

    Args:
        case: what is measured.
        refiner: of `make_refiner`, or a baseline's.
        features: [N, F] of the samples, for a prior that takes them.
        mode: whose terms guide: "released" or "default".
        batch: samples that a device refines at once.
        metrics: what is measured.
    """
    table = tuple(metrics.values())
    batches = _batches(case, batch)
    found = results.Results(
        case.lengths, {f"{when}_{m.name}": m.fewer for when in ("reg", "opt") for m in table}
    )
    devices = jax.local_devices()
    models = [jax.device_put((case.skeleton, case.body), device) for device in devices]
    others = [jax.device_put(case.others, device) for device in devices]
    under_way: deque[tuple[batching.Rows, dict[str, Any]]] = deque()
    process, processes = jax.process_index(), jax.process_count()
    # A process without a batch works on the first one, too, to have the arrays that all share.
    own = batches[process::processes] or batches[:1]
    for number, each in enumerate(results.progress(own, shown=cluster.is_main())):
        turn = number % len(models)
        estimate, true, inputs, terms, mask = jax.device_put(
            _inputs(case, each, features, mode), devices[turn]
        )
        refined, info = refiner(estimate, inputs, terms, mask)
        after = Estimate(refined.pose, refined.betas, refined.translation)
        arrays = {"pose": refined.pose, "camera_translation": refined.translation}
        arrays |= {"betas": refined.betas, "status": info.status, "stop_step": info.stop_step}
        for when, one in (("reg", estimate), ("opt", after)):
            figures = _measured(table, case.protocol, *models[turn], one, true, mask, others[turn])
            arrays |= {f"{when}_{name}": figure for name, figure in figures.items()}
        under_way.append((each, arrays))
        if len(under_way) == len(models):
            found.add(*under_way.popleft())
    for each, arrays in under_way:
        found.add(each, arrays)
    owner = np.zeros(len(case), int)
    for number, (rows, mask) in enumerate(batches):
        owner[rows[mask]] = number % processes
    found.share(owner)
    return found


def seconds_per_sample(
    case: Case,
    refiner: Refiner,
    features: Array | None = None,
    mode: str = "released",
    batch: int | None = None,
) -> float:
    """Times a method that `run` has compiled, on the largest batch of a case, by one device.

    Args:
        case, refiner, features, mode, batch: as for `run`.
    Returns:
        Seconds for each sample, the better of two calls.
    """
    largest = max(_batches(case, batch), key=lambda each: each.mask.sum())
    estimate, _, inputs, terms, mask = jax.block_until_ready(
        jax.device_put(_inputs(case, largest, features, mode), jax.local_devices()[0])
    )
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(refiner(estimate, inputs, terms, mask))
        seconds.append(time.perf_counter() - start)
    return min(seconds) / int(largest.mask.sum())


def _batches(case: Case, batch: int | None) -> list[batching.Rows]:
    size = batch or default_batch()
    if case.protocol.how.grouped:
        return list(batching.grouped(case.lengths, size))
    return list(batching.independent(len(case), size))


def _inputs(case: Case, batch: batching.Rows, features: Array | None, mode: str) -> Any:
    """Estimates, truth, features, terms and mask of a batch."""
    rows, mask = batch
    estimate, true = jax.tree.map(lambda a: a[rows], (case.estimate, case.truth))
    terms = case.protocol.how.guidance(mode, true.keypoints, true.camera)
    return estimate, true, None if features is None else features[rows], terms, mask
