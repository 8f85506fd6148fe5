"""Where the tests find the data that is not in this repository; they skip where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the repository")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of the released code on synthetic input."""
    return _folder("golden")


@pytest.fixture(scope="session")
def open_data() -> Path:
    """A CC0 body and real motion capture."""
    return _folder("open")
