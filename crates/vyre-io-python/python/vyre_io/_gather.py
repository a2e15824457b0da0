"""Rows of a file in memory."""

from . import _native


def gather(file, ids, row_bytes, out=None, *, offset=0, threads=None, device=None):
    import numpy

    if device is not None and str(device) != "cpu":
        return _to_gpu(file, ids, row_bytes, out, offset, threads, device)
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


def _to_gpu(file, ids, row_bytes, out, offset, threads, device):
    """Gathers to pinned memory of the host, which the copy engine empties."""
    import torch

    if out is not None and (not out.is_contiguous() or out.device != torch.empty(0, device=device).device):
        raise ValueError(f"out is not contiguous, or not on {device}: give a tensor that is")
    ids = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else ids
    count = len(ids)
    pinned = torch.empty((count, row_bytes), dtype=torch.uint8, pin_memory=True)
    gather(file, ids, row_bytes, pinned, offset=offset, threads=threads)
    if out is None:
        return pinned.to(device, non_blocking=True)
    flat = out.view(-1).view(torch.uint8)[: count * row_bytes]
    if flat.numel() < count * row_bytes:
        raise ValueError(f"out has {flat.numel()} bytes, and {count * row_bytes} are needed")
    flat.copy_(pinned.view(-1), non_blocking=True)
    return out
