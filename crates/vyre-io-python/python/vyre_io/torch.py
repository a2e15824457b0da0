"""Files as tensors of PyTorch that its operations cannot write to."""

import torch as _torch

from ._view import cuda_view, host_view

__all__ = ["FileTensor", "tensor"]


class FileTensor(_torch.Tensor):
    """A tensor whose memory is a file's, so that operations that would write to it raise RuntimeError.

    Slices and other views of it are file tensors, too; results of other operations are ordinary tensors. What takes its
    address, as a Triton kernel does, can write all the same: on a GPU, that is a fault that ends the context.
    """

    @staticmethod
    def __new__(cls, memory):
        return _torch.Tensor._make_subclass(cls, memory)

    # As for parameters: without it, each operation would take the detour twice.
    __torch_function__ = _torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        schema = operation._schema
        aliases = False
        for index, declared in enumerate(schema.arguments):
            alias = declared.alias_info
            if alias is None:
                continue
            given = arguments[index] if index < len(arguments) else keywords.get(declared.name)
            is_file = _has_file_tensor(given)
            if alias.is_write and is_file:
                raise RuntimeError(
                    f"{schema.name} would write to a tensor that is a file: clone the tensor first"
                )
            aliases |= is_file
        with _torch._C._DisableTorchDispatch():
            result = operation(*arguments, **keywords)
        if not aliases or not any(returned.alias_info is not None for returned in schema.returns):
            return result
        return _torch.utils._pytree.tree_map(_as_file_tensor, result)


def _has_file_tensor(given):
    if isinstance(given, (list, tuple)):
        return any(map(_has_file_tensor, given))
    return isinstance(given, FileTensor)


def _as_file_tensor(result):
    if isinstance(result, _torch.Tensor) and not isinstance(result, FileTensor):
        return _torch.Tensor._make_subclass(FileTensor, result)
    return result
