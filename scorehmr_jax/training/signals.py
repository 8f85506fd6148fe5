"""Requests to stop: SIGTERM, which clusters send some seconds before they kill, and Ctrl-C."""

import os
import signal
from types import FrameType

import jax
import numpy as np

# "Try again": neither success nor failure. A shell resumes with
#     while python train.py ...; [ $? = 75 ]; do :; done
EXIT_CODE = os.EX_TEMPFAIL


class StopRequest:
    """Notes a first signal to stop; the second one ends the process at once."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> "StopRequest":
        self._before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._asked = True
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Returns True if any process was asked to stop. All processes must call it together."""
        if jax.process_count() == 1:
            return self._asked
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.asarray(self._asked)).any())
