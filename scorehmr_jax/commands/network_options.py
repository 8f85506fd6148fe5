"""Options of the commands that show pictures to a network."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorehmr_jax.networks.image_network import ImageNetwork

NAMES = "pare, prohmr or hmr2"
BATCH = 64


def add_reading(parser: Any) -> None:
    """Adds what says how a data set's photos are read and shown."""
    parser.add_argument("--batch", type=int, default=BATCH, help=f"patches at once; {BATCH}")
    parser.add_argument("--threads", type=int, help="that decode photos; one for each processor")
    parser.add_argument(
        "--as-stored",
        action="store_true",
        help="do not turn photos as their EXIF data say: boxes are in the stored pixels",
    )


def add_precision(parser: Any) -> None:
    """Adds the type of a network's arithmetic."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of networks; bfloat16 is faster where the hardware has it",
    )


def check(args: argparse.Namespace) -> None:
    """Raises a ValueError that names the option, if a number is below 1."""
    for name in ("batch", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"--{name}: expected 1 or more, found {value}")


def load(option: str, text: str, dtype: str = "float32") -> "ImageNetwork":
    """Loads the network that an option names, NAME=FILE.

    Raises:
        ValueError: naming the option, if the text is not of this form, no network has this name, or
            the file does not hold its weights.
    """
    from scorehmr_jax.load import load_image_network
    from scorehmr_jax.networks.image_registry import IMAGE_NETWORKS

    name, equals, file = text.partition("=")
    if not equals or not file:
        raise ValueError(f"{option}: expected NAME=FILE, such as pare=pare.ckpt, found {text}")
    if name not in IMAGE_NETWORKS:
        known = ", ".join(IMAGE_NETWORKS)
        raise ValueError(f"{option}: expected one of {known} before the =, found {name!r}")
    if not Path(file).exists():
        raise ValueError(f"{option}: {file}: no such file; expected the weights of {name}")
    return load_image_network(file, name, dtype=dtype)
