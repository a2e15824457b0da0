"""Rows of a file in memory."""

from . import _native


def gather(file, ids, row_bytes, out=None, *, offset=0, threads=None):
    import numpy

    ids = numpy.asarray(ids)
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"row numbers are integers, and these are {ids.dtype}")
    ids = numpy.ascontiguousarray(ids, dtype=numpy.int64)
    if out is None:
        out = numpy.empty((ids.size, row_bytes), dtype=numpy.uint8)
    # Tensors of PyTorch have no buffer, but arrays over the same memory.
    memory = out.numpy() if hasattr(out, "numpy") else out
    _native._gather(file, ids, row_bytes, memory, offset, threads)
    return out
