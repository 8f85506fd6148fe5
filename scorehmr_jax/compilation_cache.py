"""Compiled programs are kept on disk, so that a command starts quickly the second time."""

import logging
import os
import platform
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import jax

from body_model.cache import cache_folder

SWITCH = "SCOREHMR_COMPILATION_CACHE"  # environment variable: off, or 0, leaves programs uncached
KEPT = 90 * 24 * 3600.0  # seconds after which a program is removed; new versions leave old ones


def use_compilation_cache() -> None:
    """Turns on JAX's persistent compilation cache, in a folder of this user.

    Call it before anything is compiled. It changes nothing if the user has given JAX a cache of
    their own (JAX_COMPILATION_CACHE_DIR) or has switched caching off (JAX_ENABLE_COMPILATION_CACHE
    or SCOREHMR_COMPILATION_CACHE), if the folder cannot be written or belongs to somebody else, or
    in one of several processes, which had better compile together. It says once, when the folder
    is made, where that is.
    """
    config: Any = jax.config
    chosen = config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache
    switched_off = os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no")
    if chosen or switched_off or jax.distributed.is_initialized():
        return
    folder = cache_folder() / "compiled" / _processor()
    is_new = not folder.parent.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK) or not _is_ours(folder):
        return
    if is_new:
        print(
            f"compiled programs are kept in {folder.parent} for a quicker start next time; "
            f"{SWITCH}=off leaves this out",
            file=sys.stderr,
        )
    _remove_old(folder)
    config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Hundreds of small programs take their time together.
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _silence_loader()


def _processor() -> str:
    """Names the instructions of this machine: programs for others' would crash.

    Home folders are shared between machines of many kinds.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{zlib.crc32((flags or platform.processor()).encode()):08x}"


def _is_ours(folder: Path) -> bool:
    """Tells whether nobody else could have put programs there for us to run."""
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def _remove_old(folder: Path) -> None:
    """Removes programs written long ago, as otherwise the folder would only grow."""
    for program in folder.iterdir():
        try:
            if time.time() - program.stat().st_mtime > KEPT:
                program.unlink()
        except OSError:  # another process was faster
            continue


def _silence_loader() -> None:
    """Keeps XLA from printing two screens for every program that it loads on a CPU.

    It takes its own preferences (+prefer-no-gather) for instructions that the machine lacks
    (openxla/xla#44565); the programs are sound. Whoever has chosen a level keeps it.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") != "1" or "JAX_LOGGING_LEVEL" in os.environ:
        return
    jax.config.update("jax_logging_level", "CRITICAL")  # the only way to reach C++ after import
    for name in ("jax", "jaxlib"):  # warnings in Python stay
        logging.getLogger(name).setLevel(logging.NOTSET)
