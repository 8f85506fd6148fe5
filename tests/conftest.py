"""Types checked at run time, compiled programs kept, and data from beside the repository."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from checked_types import quick_compilation
from golden import cut

# Before any test imports the packages: shapes and dtypes of every signature and field are
# checked whenever a test calls one.
jaxtyping.install_import_hook(["body_model", "scorehmr_jax"], "checked_types.checker")

SHARED = Path(__file__).resolve().parents[2] / "shared"

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
    """Lets the processes of this session, workers and programs that tests start, share a cache.

    The folder goes with the session: a program compiled by other code or another version of JAX
    is never run. Programs load within milliseconds that took seconds to compile.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # a worker, or the user's choice
        return
    folder = tempfile.TemporaryDirectory(prefix="scorehmr-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # XLA takes its own preferences for instructions that the machine lacks, at every load.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def few_programs_are_kept() -> None:
    """Keeps long compilations alone: hardly a test compiles what another one has compiled."""
    import jax  # not before the environment has been set

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


@pytest.fixture
def compiled_quickly() -> Iterator[None]:
    """Compiles in half the time: for tests of what a program does, not of its numbers."""
    with quick_compilation():
        yield


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
