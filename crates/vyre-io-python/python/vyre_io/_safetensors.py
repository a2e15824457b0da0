"""Files of the format safetensors."""

import json
import math
import mmap
import os

from ._view import cuda_copy, cuda_view

# The largest header that the format allows.
_MOST_HEADER = 100_000_000

# The names of types: bytes of an element, name in PyTorch, and name in NumPy if it has the type.
_TYPES = {
    "BOOL": (1, "bool", "bool"),
    "U8": (1, "uint8", "uint8"),
    "I8": (1, "int8", "int8"),
    "U16": (2, "uint16", "uint16"),
    "I16": (2, "int16", "int16"),
    "U32": (4, "uint32", "uint32"),
    "I32": (4, "int32", "int32"),
    "U64": (8, "uint64", "uint64"),
    "I64": (8, "int64", "int64"),
    "F16": (2, "float16", "float16"),
    "BF16": (2, "bfloat16", None),
    "F32": (4, "float32", "float32"),
    "F64": (8, "float64", "float64"),
    "C64": (8, "complex64", "complex64"),
    "F8_E4M3": (1, "float8_e4m3fn", None),
    "F8_E5M2": (1, "float8_e5m2", None),
    "F8_E8M0": (1, "float8_e8m0fnu", None),
}


class Entry:
    """A tensor of the file: its type, its shape, and where its bytes begin in the file."""

    __slots__ = ("dtype", "shape", "offset", "size")

    def __init__(self, name, described, first, size):
        try:
            self.dtype = described["dtype"]
            self.shape = tuple(described["shape"])
            begin, end = described["data_offsets"]
            known = _TYPES.get(self.dtype)
            if known is None:
                raise ValueError(f"{self.dtype} is no type that vyre_io knows")
            if not all(type(number) is int and number >= 0 for number in (*self.shape, begin, end)):
                raise ValueError("a number is negative, or no integer")
            self.size = known[0] * math.prod(self.shape)
            if end - begin != self.size:
                raise ValueError(f"{self.shape} of {self.dtype} has {self.size} bytes, and not {end - begin}")
            self.offset = first + begin
            if self.offset + self.size > size:
                raise ValueError(f"it ends after the file, which has {size} bytes")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the tensor {name!r} is described wrongly: {error}") from None

    @property
    def torch_name(self):
        return _TYPES[self.dtype][1]

    @property
    def numpy_name(self):
        return _TYPES[self.dtype][2]

    @property
    def item_size(self):
        return _TYPES[self.dtype][0]


def entries(file):
    """Reads the header of an open file, and returns its tensors by name."""
    size = os.fstat(file.fileno()).st_size
    start = os.pread(file.fileno(), 8, 0)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, _MOST_HEADER):
        raise ValueError(f"{file.name} is no safetensors file: its header would have {length} bytes of {size}")
    try:
        header = json.loads(os.pread(file.fileno(), length, 8))
    except ValueError as error:
        raise ValueError(f"{file.name} is no safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} is no safetensors file: its header is no object")
    header.pop("__metadata__", None)
    return {name: Entry(name, described, 8 + length, size) for name, described in header.items()}


def _to_torch(mapped, entry):
    import torch

    dtype = getattr(torch, entry.torch_name)
    if entry.size == 0:
        return _empty(entry, "cpu")
    if entry.offset % entry.item_size:
        # The rest of PyTorch takes aligned elements for granted.
        copy = bytearray(mapped[entry.offset : entry.offset + entry.size])
        return torch.frombuffer(copy, dtype=dtype).reshape(entry.shape)
    count = entry.size // entry.item_size
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=entry.offset).reshape(entry.shape)


def _to_numpy(mapped, entry):
    import numpy

    if entry.numpy_name is None:
        raise TypeError(f"NumPy has no type {entry.dtype}: load the file with framework='pt'")
    count = entry.size // entry.item_size
    flat = numpy.frombuffer(mapped, dtype=entry.numpy_name, count=count, offset=entry.offset)
    return flat.reshape(entry.shape)


_FRAMEWORKS = {"pt": _to_torch, "np": _to_numpy}


def _ordinal(device):
    """Returns the number of a GPU by PyTorch's name of it, or None for the CPU."""
    kind, _, number = str(device).partition(":")
    if kind == "cpu" and not number:
        return None
    if kind == "cuda" and (number.isdecimal() or not number):
        return int(number or 0)
    raise ValueError(f"device is {device!r}, and must be 'cpu', 'cuda' or 'cuda:N'")


def _on_gpu(path, described, ordinal, lazy):
    import torch

    if not any(entry.size for entry in described.values()):
        return {name: _empty(entry, f"cuda:{ordinal}") for name, entry in described.items()}
    # PyTorch makes the context that both use.
    torch.cuda.init()
    first = min(entry.offset for entry in described.values() if entry.size)
    end = max(entry.offset + entry.size for entry in described.values())
    if lazy:
        from .torch import FileTensor

        whole = cuda_view(path, "uint8", [end - first], first, device=ordinal)
        wrap = FileTensor
    else:
        whole = cuda_copy(path, end - first, first, ordinal)
        wrap = torch.Tensor.detach
    tensors = {}
    for name, entry in described.items():
        if entry.size == 0:
            tensors[name] = _empty(entry, f"cuda:{ordinal}")
        elif entry.offset % entry.item_size == 0 and (lazy or (entry.offset - first) % entry.item_size == 0):
            part = whole.part_of(entry.torch_name, entry.shape, entry.offset - first)
            tensors[name] = wrap(torch.from_dlpack(part))
        else:
            part = torch.from_dlpack(whole.part_of("uint8", [entry.size], entry.offset - first))
            tensors[name] = part.clone().view(getattr(torch, entry.torch_name)).reshape(entry.shape)
    return tensors


def _empty(entry, device):
    import torch

    return torch.empty(entry.shape, dtype=getattr(torch, entry.torch_name), device=device)


def load_safetensors(path, device="cpu", *, framework="pt", lazy=False):
    if framework not in _FRAMEWORKS:
        raise ValueError(f"framework is {framework!r}, and must be 'pt' or 'np'")
    ordinal = _ordinal(device)
    if ordinal is not None and framework != "pt":
        raise ValueError("NumPy has no arrays on a GPU: load the file with framework='pt'")
    with open(path, "rb", buffering=0) as file:
        described = entries(file)
        if ordinal is not None:
            return _on_gpu(path, described, ordinal, lazy)
        # Private and writable, as PyTorch wants it: a page that is written becomes the tensor's own.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {name: _FRAMEWORKS[framework](mapped, entry) for name, entry in described.items()}
