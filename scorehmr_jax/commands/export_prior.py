"""`scorehmr export-prior`: a trained prior as a file for others, the released code among them."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser("export-prior", help="write a prior in another form")
    parser.add_argument("prior", type=Path, help="a run's folder, or a prior's file or directory")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="model-<n>.pt for the released PyTorch code (of a prior with shape, betas_stats.npz "
        "beside it); .npz; .safetensors; without a suffix an Orbax directory",
    )
    parser.add_argument("--step", type=int, help="of a run; the newest by default")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Writes the prior in the form that the file's name asks for."""
    from scorehmr_jax.training.export import export

    export(args.prior, args.out, args.step)
