"""Seconds of the networks that look at pictures, beside plain PyTorch with the same weights.

    python -m benchmarks.networks [--networks prohmr pare hmr2] [--batch 8] [--json FILE]

PyTorch is no part of this project's environment: run it in one of its own, with this project and
the package torch installed. Without torch only ours is timed. Both run in one process, in turns;
each figure is the best of many turns. Others' work on the machine spoils the figures all the same:
measure on a quiet one. HMR 2.0 is measured with fewer of the 32 equal blocks of its ViT (--depth),
as not every machine has the memory for two of the whole.

A row of the JSON file is one network in one type of numbers: seconds for a batch of `ours` and of
`torch`, their `ratio`, images per second, the seconds of compiling, and the largest `difference`
of the results, relative to the largest number.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from scorehmr_jax.convert.image_tables import TABLES
from scorehmr_jax.convert.image_weights import converted
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.networks.image_registry import IMAGE_NETWORKS
from scorehmr_jax.networks.parameters import unflatten

try:
    import torch
except ImportError:
    torch = None

NETWORKS = ("prohmr", "pare", "hmr2")
SECONDS = 20.0  # for each network and type

Timed = Callable[[], Any]


def main(arguments: list[str] | None = None) -> None:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.networks",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--types", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--depth", type=int, default=8, help="blocks of the ViT; HMR 2.0 has 32")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args(arguments)
    if torch is None:
        print("torch is not installed: ours alone is timed")
    rows = []
    for name in options.networks:
        for row in measure(name, options):
            rows.append(row)
            shown = {key: value for key, value in row.items() if key not in machine.describe()}
            print("  ".join(f"{key} {_text(value)}" for key, value in shown.items()), flush=True)
    machine.write(rows, options.json)


def measure(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one network."""
    ours, theirs = networks(name, options.depth)
    size = ours.crop.size
    images = np.random.default_rng(0).standard_normal((options.batch, size, size, 3), np.float32)
    for dtype in options.types:
        network, pictures = ours.astype(dtype), jnp.asarray(images, dtype)
        start = time.perf_counter()
        compiled = jax.jit(ImageNetwork.outputs).lower(network, pictures).compile()
        compiling = time.perf_counter() - start
        timed: dict[str, Timed] = {
            "ours": lambda f=compiled, n=network, x=pictures: jax.block_until_ready(f(n, x))
        }
        if theirs is not None:
            kind = getattr(torch, dtype)
            theirs, given = theirs.to(kind), torch.tensor(images.transpose(0, 3, 1, 2), dtype=kind)
            timed["torch"] = lambda f=theirs, x=given: f(x)
        difference = None
        if theirs is not None:
            found, expected = timed["ours"](), timed["torch"]()
            difference = max(relative(found[key], expected[key]) for key in expected)
        seconds = best(timed, options.seconds)
        yield {
            "network": name if name != "hmr2" else f"hmr2, {options.depth} blocks",
            "type": dtype,
            "batch": options.batch,
            **seconds,
            "ratio": seconds["ours"] / seconds["torch"] if theirs is not None else None,
            "images_per_second": options.batch / seconds["ours"],
            "compiling": compiling,
            "difference": difference,
            "torch_version": None if torch is None else torch.__version__,
            **machine.describe(),
        }


def networks(name: str, depth: int) -> tuple[ImageNetwork, Any]:
    """Our network and PyTorch's with the same weights; None without PyTorch."""
    sizes = {"depth": depth} if name == "hmr2" else {}
    architecture = IMAGE_NETWORKS[name](**sizes)
    if torch is None:
        return ImageNetwork(jax.jit(architecture.init)(jax.random.key(0)), architecture), None
    from benchmarks import torch_networks

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    kinds = {
        "prohmr": torch_networks.ResNet50,
        "pare": torch_networks.PARE,
        "hmr2": torch_networks.HMR2,
    }
    theirs = torch_networks.lively(kinds[name](**sizes))
    weights = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    flat = converted(weights, TABLES[name](architecture), architecture.parameter_shapes(), name)
    return ImageNetwork(jax.tree.map(jnp.asarray, unflatten(flat)), architecture), theirs


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference of two results, relative to the largest number."""
    expected = theirs.float().numpy()
    return float(np.abs(np.asarray(ours, np.float32) - expected).max() / np.abs(expected).max())


def best(timed: dict[str, Timed], budget: float) -> dict[str, float]:
    """The least seconds of each, run in turns."""
    least = dict.fromkeys(timed, float("inf"))
    for run in timed.values():
        run()
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for name, run in timed.items():
            for _ in range(2):
                start = time.perf_counter()
                run()
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
