import sys
from collections.abc import Generator, Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

_T = TypeVar("_T")

class _DLPack(Protocol):
    def __dlpack__(self) -> Any: ...

class _CudaArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

_Array = _DLPack | _CudaArray

__version__: str

@final
class File:
    """A file that is read and written at offsets.

    A buffer is an object with Python's buffer protocol, or an array of another library: of the host by DLPack, or of a GPU by
    DLPack or `__cuda_array_interface__`, as CuPy, PyTorch, JAX and Numba have them. It must be contiguous. What runs on the
    GPU must be done with a buffer before an operation begins, so synchronize the stream that uses it, and does not wait for
    the operation, so wait for its result. Operations on buffers of GPUs are performed by four threads of the process with pinned
    memory; reads of 32 MiB and more pin the pages of a cached file.

    All methods may be called from any thread. After a fork, the child's first use opens the file for an engine of the
    child. A pickled file is opened anew by its path, and not truncated again.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        mode: str = "r",
        *,
        engine: Engine | None = None,
        direct: bool = False,
    ) -> None:
        """Opens a file.

        mode is "r", "r+", "w", "w+", "x" or "x+", as for open(); a "b" in it changes nothing. engine performs the
        operations; by default, it is that of the process, which starts when it is first needed. direct bypasses the
        page cache (O_DIRECT): offsets, sizes and addresses must then be multiples of what the drive asks for.

        Raises OSError with errno and filename.
        """

    def pread(
        self, buffer: Buffer | Memory | _Array, offset: int = 0, size: int | None = None, *, at: int = 0
    ) -> Future:
        """Begins to read `size` bytes at `offset` of the file, into `buffer` from its byte `at` on.

        By default, fills the buffer. The result is the number of bytes, which is less than `size` where the file ends.
        Until it is there, the buffer is kept, and its bytes are undefined. Bytes that are in memory are read
        by the calling thread, up to 128 KiB at once.

        Raises BufferError for a buffer that is read-only or not contiguous, and ValueError for bytes that are not
        inside it.
        """

    def pwrite(
        self, buffer: Buffer | Memory | _Array, offset: int = 0, size: int | None = None, *, at: int = 0
    ) -> Future:
        """Begins to write `size` bytes of `buffer`, from its byte `at` on, at `offset` of the file.

        By default, writes the rest of the buffer. The result is the number of bytes. Until it is there, the buffer
        must not change.
        """

    def sync(self) -> Future:
        """Begins to make durable, as fsync(2) does, what was written by operations whose results are there.

        The result is 0. A file of a directory makes its entries durable, and can do nothing else.
        """

    def size(self) -> int:
        """Returns the size of the file in bytes."""

    def close(self) -> None:
        """Closes the file. Operations on it go on, and keep the descriptor until they have ended."""

    @property
    def closed(self) -> bool:
        """True after close()."""

    @property
    def name(self) -> str:
        """The path."""

    @property
    def mode(self) -> str:
        """The mode that the file was opened with."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class _Pending(Generic[_T]):
    def result(self, timeout: float | None = None) -> _T:
        """Waits for the result.

        Raises OSError with errno and filename if the operation failed; TimeoutError after `timeout` seconds, when the
        operation goes on; and concurrent.futures.CancelledError if it was given up. A signal whose handler raises, such
        as Ctrl-C, ends the wait and not the operation.
        """

    def done(self) -> bool:
        """Returns whether the result is there."""

    def cancel(self) -> bool:
        """Gives the operation up, unless it is done.

        Returns whether it was given up. One that has begun goes on: its buffer is kept until it has ended, and may be
        written until then.
        """

    def cancelled(self) -> bool:
        """Returns whether the operation was given up."""

    def __await__(self) -> Generator[object, None, _T]:
        """Waits in a task. A task that is cancelled gives the operation up."""

@final
class Future(_Pending[int]):
    """The result of an operation: the number of bytes that were moved."""

@final
class Batch(_Pending[list[int]]):
    """The results of operations that were begun together, in the order of their requests.

    result() raises the first error.
    """

    def outcomes(self, timeout: float | None = None) -> list[int | OSError]:
        """Waits for all results, and returns them: numbers of bytes, and errors."""

    def counts(self, timeout: float | None = None) -> memoryview:
        """Waits for all results, and returns them as 64-bit integers: numbers of bytes, or the negative of an errno.

        numpy.asarray makes an array of it without a copy. No object is made for each result.
        """

    @property
    def key(self) -> int | None:
        """The number that the batch was submitted with."""

    def __len__(self) -> int: ...

@final
class Read:
    """A request for Engine.submit: as File.pread."""

    def __init__(
        self,
        file: File,
        buffer: Buffer | Memory | _Array,
        offset: int = 0,
        size: int | None = None,
        *,
        at: int = 0,
    ) -> None: ...

@final
class Write:
    """A request for Engine.submit: as File.pwrite."""

    def __init__(
        self,
        file: File,
        buffer: Buffer | Memory | _Array,
        offset: int = 0,
        size: int | None = None,
        *,
        at: int = 0,
    ) -> None: ...

@final
class Reads:
    """A request for Engine.submit that stands for many reads of one file into one buffer.

    A batch of small reads costs little more than its copies in this way: no object is made for each of them.
    """

    def __init__(
        self,
        file: File,
        buffer: Buffer | Memory | _Array,
        offsets: Buffer | Sequence[int],
        size: int | Buffer | Sequence[int],
        *,
        at: Buffer | Sequence[int] | None = None,
    ) -> None:
        """offsets are those in the file, size the number of bytes of each read, or of all, and at their places in the buffer:
        by default, one follows the other. Each is an array of 64-bit integers, such as NumPy's, or a sequence. They are
        copied.

        Raises TypeError for other numbers, and ValueError for negative ones and for arrays that differ in length.
        """

    def __len__(self) -> int: ...

@final
class Writes:
    """A request for Engine.submit that stands for many writes of one buffer to one file: as Reads."""

    def __init__(
        self,
        file: File,
        buffer: Buffer | Memory | _Array,
        offsets: Buffer | Sequence[int],
        size: int | Buffer | Sequence[int],
        *,
        at: Buffer | Sequence[int] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...

@final
class Sync:
    """A request for Engine.submit: as File.sync."""

    def __init__(self, file: File) -> None: ...

@final
class Engine:
    """A thread that performs operations, by io_uring or, where that is refused, by further threads.

    Most programs need none of their own: files share that of the process. After a fork, an engine raises RuntimeError
    in the child.
    """

    def __init__(
        self,
        *,
        depth: int = 256,
        transport: Literal["auto", "ring", "threads"] = "auto",
        wait: Literal["sleep", "adaptive", "spin"] = "sleep",
        core: int | None = None,
        drain_timeout: float = 5.0,
    ) -> None:
        """Starts the thread.

        depth is the number of operations in flight, up to 4096; further ones wait. Each has 64 KiB of memory, through
        which operations of up to 64 KiB pass. wait says what the thread does without work: it sleeps, polls for a
        while, or polls always, which is fastest and takes a core. core binds it to a processor. drain_timeout is the
        number of seconds after which close() cancels operations.

        Raises OSError if there is no memory or thread, or if the transport is refused.
        """

    def submit(
        self, requests: Iterable[Read | Write | Reads | Writes | Sync], *, key: int | None = None
    ) -> Batch:
        """Begins operations, in no order. Raises as File.pread does, before any of them begins.

        The results are in the order of the requests, with those of a Reads or Writes in its own order. Reads of bytes that
        are in memory are performed by the calling thread, up to 4 MiB of a batch. drain() returns a batch that has a key, a
        number of 64 bits, once it has ended.
        """

    def drain(self) -> list[Batch]:
        """Returns the batches with keys that have ended since the last call, without waiting.

        A batch that was given up is among them once its memory is free. Take an engine of your own where other code may
        drain that of the process.
        """

    def event_fd(self) -> int:
        """Returns an eventfd that is readable while drain() may have something to return, and unreadable after that.

        It is for select, poll, epoll and event loops. Do not read from it, which drain() does, and do not close it, which the
        end of the engine does. It may also be readable for other outcomes of the engine, and drain() then returns nothing.
        """

    def register(self, buffer: Buffer) -> Memory:
        """Registers memory with the kernel, which pins it.

        Operations longer than 64 KiB register their buffer each time, which takes some 50 µs and more: registered
        memory saves that.
        """

    @property
    def transport(self) -> str:
        """Describes the transport, and says why there is no better one."""

    def close(self) -> None:
        """Waits for all operations, cancels those that do not end within drain_timeout, and ends the thread.

        The interpreter's exit closes all engines. Raises OSError if the
        kernel did not give an operation back.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Memory:
    """Memory that an engine has registered, for files of that engine."""

    def close(self) -> None:
        """Waits for operations that use the memory, and gives it back."""

    @property
    def closed(self) -> bool:
        """True after close()."""

    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class CudaQueue:
    """A queue for the kernels of a GPU, and a thread that serves their requests for some files.

    Kernels that are compiled with include(), such as those of cupy.RawKernel, make requests by themselves. They take the
    numbers below as arguments:

    >>> kernel = cupy.RawKernel(source, "name", options=("--std=c++17", "-I" + vyre_io.include()))  # doctest: +SKIP

    Keep the queue, and its files' bytes, until the kernel has ended: close() and the end of the object do not wait for it.
    A kernel whose queue was closed finds that nobody serves it. Its memory is given back after that, by a thread.
    """

    def __init__(
        self,
        files: Iterable[File],
        *,
        buffer_bytes: int,
        slots: int = 1024,
        wait: Literal["adaptive", "spin"] = "spin",
        device: int = 0,
    ) -> None:
        """Starts the thread, which may do with each file what the file's mode allows.

        buffer_bytes is the size of the memory that requests name, which both the thread and kernels access. slots is the
        number of requests in flight, up to 4096. wait says what the thread does without work: it polls for a while and then
        naps, or polls always, which is fastest and takes a core.

        Raises OSError without a GPU, or if there is no memory or thread.
        """

    @property
    def address(self) -> int:
        """The address of a `vyre_ioq::Queue` in memory of the GPU."""

    @property
    def files(self) -> tuple[int, ...]:
        """The handles of the files, in their order, as requests name them."""

    @property
    def buffer_address(self) -> int:
        """The address of the memory for kernels."""

    @property
    def buffer_handle(self) -> int:
        """The handle of the memory, as requests name it."""

    @property
    def buffer_bytes(self) -> int:
        """The size of the memory in bytes."""

    def close(self) -> None:
        """Ends the thread. Raises OSError if the kernel of the system did not give an operation back."""

    @property
    def closed(self) -> bool:
        """True after close()."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class FileView:
    """A part of a file as an array, for libraries that take DLPack or `__cuda_array_interface__`.

    torch.from_dlpack(view) (or as_tensor, for types that the interface knows), cupy.from_dlpack and numpy.from_dlpack make
    arrays over the same bytes, which keep the pages as long as they live. What is written to the file through the page cache
    shows at once. Nobody may write to the array. A library that heeds the read-only flag of DLPack 1, as NumPy does, refuses
    to; vyre_io.torch makes tensors whose operations refuse; anything else that writes to it on a GPU is a fault that ends
    the context.
    """

    def check(self) -> Literal["current", "shorter", "detached"]:
        """Says whether the array shows what the file holds, or the file became shorter, or pages have left it."""

    def part_of(self, dtype: str, shape: list[int], at: int) -> FileView:
        """Returns an array of other elements of the same bytes, from byte `at` of this one on."""

    def close(self) -> None:
        """Gives the pages up, once no array needs them."""

    @property
    def closed(self) -> bool: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def offset(self) -> int:
        """Offset of the array in the file, in bytes."""

    @property
    def nbytes(self) -> int: ...
    @property
    def pinned_bytes(self) -> int:
        """The bytes of the file that are pinned for the GPU, in whole pages; 0 for the host."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

def cuda_view(
    path: str | PathLike[str],
    dtype: Any,
    shape: Iterable[int],
    offset: int = 0,
    *,
    device: int = 0,
    copy: bool = False,
) -> FileView:
    """Pins a part of a cached file, and lets a GPU read it over the bus, without a copy.

    dtype is that of NumPy or PyTorch, or its name; offset is in bytes. The pages count as memory in use until the last array
    of them is gone, in sum up to half of the machine's memory (set_pin_limit). Pages that are not in memory are read in.

    With copy, the part is copied to memory of the GPU, from any offset: an array that is the caller's to write to, and that no
    write to the file changes.

    Raises ValueError for an offset that is not a multiple of the element's size, unless it copies, and for a part that the file does not have;
    OSError if there is no GPU, or if its driver or the file's file system does not allow it.
    """

def host_view(path: str | PathLike[str], dtype: Any, shape: Iterable[int], offset: int = 0) -> FileView:
    """Maps a part of a file for the host.

    As for numpy.memmap, an access past the end of a file that became shorter ends the process by SIGBUS.
    """

def gather(
    file: File,
    ids: Any,
    row_bytes: int,
    out: Any = None,
    *,
    offset: int = 0,
    threads: int | None = None,
    device: Any = None,
) -> Any:
    """Copies the rows of `row_bytes` bytes whose numbers are `ids` to `out`, in that order. Row 0 begins at `offset`.

    out is a writable buffer, or a tensor of PyTorch on the CPU; by default, a new array of bytes. Returns it. The calling
    thread and up to 15 others (threads - 1 with `threads`) copy out of a mapping of the file, without the interpreter's
    lock, and wait for pages that are not in memory. Files that cannot be mapped are read by pread(2).

    With device, such as "cuda", out is a tensor of PyTorch on that device, by default a new one of bytes; the rows pass through
    pinned memory of the host, and the copy is one of the current stream. To gather often out of the same cached file, index a
    cuda_view instead: that is five times as fast.

    Raises IndexError for a number without a row, after which `out` holds some of the rows; and OSError with errno and
    filename if the file cannot be read.
    """

def load_safetensors(
    path: str | PathLike[str],
    device: Any = "cpu",
    *,
    framework: Literal["pt", "np"] = "pt",
    lazy: bool = False,
) -> dict[str, Any]:
    """Returns the tensors of a safetensors file by name.

    On the CPU, they are views of a private mapping: pages are read when they are used, and writes to a tensor stay in the
    process. On a GPU, they share one allocation, to which all of the file is copied; with lazy, they are vyre_io.torch
    file tensors, which use no memory of the GPU. The file must not be overwritten meanwhile: replace it by another.

    Raises ValueError for a file that is no safetensors file, and TypeError for a type that the framework lacks.
    """

def include() -> str:
    """Returns the directory of the headers for kernels: vyre_ioq.cuh, vyre_view.cuh and vyre_windows.cuh."""

def pinned_bytes() -> int:
    """Returns the number of bytes of files that views pin."""

def set_pin_limit(bytes: int) -> None:
    """Sets how many bytes views may pin. By default, that is half of the machine's memory."""

def default_engine() -> Engine:
    """Returns the engine that the process's files share."""
