"""Types checked at run time, and where the tests find data that is not in this repository."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
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
