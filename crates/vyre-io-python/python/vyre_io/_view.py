"""Files as arrays."""

from . import _native


def _name(dtype):
    """Returns the name of a type of NumPy or PyTorch."""
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type):
        return dtype.__name__
    return getattr(dtype, "name", None) or str(dtype)


def cuda_view(path, dtype, shape, offset=0, *, device=0, copy=False):
    return _native.FileView(path, _name(dtype), list(shape), offset, "copy" if copy else "pin", device)


def host_view(path, dtype, shape, offset=0):
    return _native.FileView(path, _name(dtype), list(shape), offset, "map", 0)


def cuda_copy(path, size, offset, device):
    return _native.FileView(path, "uint8", [size], offset, "copy", device)
