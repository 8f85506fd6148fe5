"""The run-time type checker of the tests, and their way to compile quickly."""

from collections.abc import Iterator
from contextlib import contextmanager

from beartype import BeartypeConf, beartype

# A whole number is a float, as PEP 484 has it.
checker = beartype(conf=BeartypeConf(is_pep484_tower=True))


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compiles in half the time, to slower programs."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
