"""The run-time type checker of the tests."""

from beartype import BeartypeConf, beartype

# A whole number is a float, as PEP 484 has it.
checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
