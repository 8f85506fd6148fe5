"""Types checked at run time, compiled programs kept, and data from beside the repository."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from compiling import QUICKLY
from golden import cut

# Before any test imports the packages: shapes and dtypes of every signature and field are
# checked whenever a test calls one.
jaxtyping.install_import_hook(["body_model", "scorehmr_jax"], "checked_types.checker")

SHARED = Path(__file__).resolve().parents[2] / "shared"

_KEPT = 14 * 24 * 3600.0  # seconds after which a compiled program is removed

_raises = pytest.raises


@contextmanager
def _raises_unchecked(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """`pytest.raises` with the type checks off: bad input must be named by our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with _raises(*args, **kwargs) as info:
            yield info
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


pytest.raises = _raises_unchecked  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    """Compiles quickly, and keeps what is compiled in pytest's cache.

    Most of a first run is compilation. Workers, started processes and the next run find a program
    again by all that it was compiled from: its own operations, the versions of JAX and XLA, their
    options and the machine.
    """
    if QUICKLY not in os.environ.get("XLA_FLAGS", ""):
        # What the user chose comes later, and holds.
        os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # a worker, or the user's choice
        return
    folder = config.cache.mkdir("compiled")  # type: ignore[union-attr]
    for program in folder.iterdir():
        if time.time() - program.stat().st_mtime > _KEPT:
            program.unlink(missing_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # XLA takes its own preferences for instructions that the machine lacks, at every load.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def few_programs_are_kept() -> None:
    """Keeps no program that is compiled as fast as it is read."""
    import jax  # not before the environment has been set

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "use the golden arrays in tests/golden, also where shared/golden has more"
    parser.addoption("--cut-golden", action="store_true", help=text)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """Outputs of the released code on synthetic input: the whole set, or the cut one."""
    if (SHARED / "golden").is_dir() and not request.config.getoption("--cut-golden"):
        return SHARED / "golden"
    return cut.folder()


def _folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the repository")
    return path


@pytest.fixture(scope="session")
def open_data() -> Path:
    """A CC0 body and real motion capture."""
    return _folder("open")
