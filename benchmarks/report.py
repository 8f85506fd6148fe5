"""What a benchmark found, as a file and with where it was found."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import jax


def write(figures: Any, path: Path | None) -> None:
    """Writes what JSON can hold, whole or not at all; nothing without a path."""
    if path is None:
        return
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(figures, indent=1) + "\n")
    os.replace(part, path)


def machine() -> dict[str, Any]:
    """Where this runs."""
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
