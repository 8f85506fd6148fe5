"""The machine that a benchmark runs on, and the file of what it found."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from body_model.files import write_text


def write(figures: Any, path: Path | None) -> None:
    """Writes figures as JSON, whole or not at all; nothing without a path."""
    if path is not None:
        # A figure that is NaN is no reason to lose the others, as write_json has it.
        write_text(path, json.dumps(figures, indent=1) + "\n")


def describe() -> dict[str, Any]:
    """Describes this machine, its load, and the versions of Python and JAX."""
    return {
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "machine": _processor(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.machine())
