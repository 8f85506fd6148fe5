"""`scorehmr convert`: a released network that looks at pictures as a file without PyTorch."""

import argparse
import zlib
from pathlib import Path
from typing import Any

from body_model.paths import local_path
from scorehmr_jax.networks.image_registry import IMAGE_NETWORKS

TYPES = ("float32", "bfloat16", "float16")


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "convert", help="write a released network for pictures (PARE, ProHMR, HMR 2.0) anew"
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="the released .pt, .pth or .ckpt; or what this command wrote, for the other form",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help=".safetensors; without a suffix an Orbax directory",
    )
    parser.add_argument(
        "--network",
        choices=IMAGE_NETWORKS,
        help="what it must be; by default its tensors tell",
    )
    parser.add_argument(
        "--type",
        choices=TYPES,
        help="of the numbers: half as large as float32 in 16 bits; by default they stay",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reads, writes, and reads back what was written."""
    import jax
    import numpy as np

    from scorehmr_jax import image_checkpoint
    from scorehmr_jax.networks.parameters import change_leaves

    # Asked before a large file is read.
    if local_path(args.out).suffix not in ("", ".safetensors"):
        raise ValueError(f"--out {args.out}: expected .safetensors or no suffix")
    params, architecture = image_checkpoint.read(args.checkpoint, args.network)
    if args.type is not None:
        dtype = jax.numpy.dtype(args.type)
        change_leaves(params, lambda leaf: np.asarray(leaf).astype(dtype))
    image_checkpoint.write(args.out, params, architecture)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    # Sums are compared, so that a large network is not in memory twice.
    sums = change_leaves(params, _sum)
    written, kind = image_checkpoint.read(args.out)
    if kind != architecture or change_leaves(written, _sum) != sums:
        raise ValueError(f"{args.out}: does not read back as it was written; is the disk sound?")
    print(f"{args.out}: {architecture}, {count / 1e6:.1f} million weights")


def _sum(array: Any) -> tuple[str, tuple[int, ...], int]:
    return array.dtype.name, array.shape, zlib.crc32(array.tobytes())
