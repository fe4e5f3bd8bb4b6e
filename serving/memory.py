"""Gives back what an unloaded version took."""

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Frees graphs, which refer to themselves, and lets the C library hand free memory to the system: it keeps most of
    a model's otherwise, and the next one takes new."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc knows no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)
