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
    CudaQueue,
    Engine,
    File,
    FileView,
    Future,
    Memory,
    Read,
    Reads,
    Sync,
    Write,
    Writes,
    __version__,
    _close_all,
    default_engine,
    pinned_bytes,
    set_pin_limit,
)
from ._gather import gather
from ._include import include
from ._safetensors import load_safetensors
from ._view import cuda_view, host_view

__all__ = [
    "Batch",
    "CudaQueue",
    "Engine",
    "File",
    "FileView",
    "Future",
    "Memory",
    "Read",
    "Reads",
    "Sync",
    "Write",
    "Writes",
    "__version__",
    "cuda_view",
    "default_engine",
    "gather",
    "host_view",
    "include",
    "load_safetensors",
    "pinned_bytes",
    "set_pin_limit",
]

atexit.register(_close_all)
