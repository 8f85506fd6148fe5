"""`scorehmr convert`: a released network that looks at pictures as a file without PyTorch."""

import argparse
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

    # Asked before a large file is read.
    if local_path(args.out).suffix not in ("", ".safetensors"):
        raise ValueError(f"--out {args.out}: expected .safetensors or no suffix")
    params, architecture = image_checkpoint.read(args.checkpoint, args.network)
    if args.type is not None:
        dtype = jax.numpy.dtype(args.type)
        params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)
    image_checkpoint.write(args.out, params, architecture)
    written, kind = image_checkpoint.read(args.out)
    same = jax.tree.map(np.array_equal, params, written)
    if kind != architecture or not all(jax.tree.leaves(same)):
        raise ValueError(f"{args.out}: does not read back as it was written; is the disk sound?")
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{args.out}: {architecture}, {count / 1e6:.1f} million weights")
