# SPDX-License-Identifier: MIT
"""Memory of CPU launches, one piece for each thread, kept from call to call."""

from __future__ import annotations

import ctypes
import mmap
import threading

from aiter_moe.sizes import round_up

# Grown by whole huge pages: memory that is touched for the first time costs a fault for each page.
_HUGE_PAGE = 1 << 21
# More is given back after the call, which was a long one.
KEPT_BYTES = 1 << 28


class Arena(threading.local):
    """Memory of the calling thread: `bytes` at `address`, which is that of a page."""

    address: int = 0
    bytes: int = 0
    growths: int = 0
    """Pieces of memory this thread has asked for."""

    _memory: mmap.mmap | None = None

    def grow(self, wanted: int) -> None:
        """Hold at least `wanted` bytes, of any content.

        Raises
        ------
        MemoryError
            There are not so many.
        """
        if wanted <= self.bytes:
            return
        self._release()
        size = round_up(wanted, _HUGE_PAGE)
        try:
            # Private: a forked child must not share it.
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for {size} bytes between the steps of a layer") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._memory = memory
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.bytes = size
        self.growths += 1

    def shrink(self) -> None:
        """Give memory back if it is more than is kept."""
        if self.bytes > KEPT_BYTES:
            self._release()

    def _release(self) -> None:
        self._memory, self.address, self.bytes = None, 0, 0
