"""Asynchronous reads and writes of files into NumPy arrays and other buffers, for Linux.

>>> import vyre_io
>>> with vyre_io.File("/tmp/vyre_io_example", "w+") as file:
...     file.pwrite(b"weights").result()
...     buffer = bytearray(7)
...     file.pread(buffer).result()
...     bytes(buffer)
7
7
b'weights'
"""

import atexit

from ._native import (
    Batch,
    Engine,
    File,
    Future,
    Memory,
    Read,
    Sync,
    Write,
    __version__,
    _close_all,
    default_engine,
)

__all__ = [
    "Batch",
    "Engine",
    "File",
    "Future",
    "Memory",
    "Read",
    "Sync",
    "Write",
    "__version__",
    "default_engine",
]

atexit.register(_close_all)
