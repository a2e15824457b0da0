"""Files of a server, such as ``vyre-io serve``, which this process need not be able to open."""

import os
import sys
from types import TracebackType
from typing import Literal, Self, TypedDict, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

__all__ = ["Client", "RemoteFile"]

class FileInfo(TypedDict):
    name: str
    start: int
    """First byte of the file that a handle covers."""
    end: int | None
    """The byte after the last, or ``None`` for a range that grows with the file."""
    rights: str
    """Of ``r``, ``w`` and ``s``: reads, writes, syncs."""
    alignment: int
    """Offsets and sizes must be multiples of this."""

class Limits(TypedDict):
    queues: int | None
    slots: int | None
    buffers: int | None
    open_files: int | None
    operations_in_flight: int | None
    buffer_bytes: int | None
    operations_per_second: int | None
    bytes_per_second: int | None
    bytes_in_flight: int | None

@final
class Client:
    """A connection to a server. It has a queue of 16 slots and a buffer of 4 MiB.

    Threads may share it; their operations take turns. The interpreter's lock is not held during I/O.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, name: str | None = None, timeout: float = 30.0
    ) -> None:
        """Connects to the server that listens at ``path``.

        ``name`` is for the server's log. ``timeout`` is the time in seconds after which an answer or an outcome is given up.

        Raises ``OSError`` if nobody listens there, or if what the client needs exceeds its limits, and
        ``ConnectionResetError`` if the server does not accept this client.
        """

    def files(self) -> list[FileInfo]:
        """Returns the files that the server offers to this client."""

    @property
    def limits(self) -> Limits:
        """The limits of this client; ``None`` is no limit."""

    def open(self, name: str) -> RemoteFile:
        """Opens a file of the server.

        Raises ``FileNotFoundError`` if it offers no file of this name.
        """

    def close(self) -> None:
        """Ends the conversation in order. Files of the client are of no further use."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    @property
    def host_gone(self) -> bool:
        """Whether the server has closed the connection: it ended, or was killed."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False] | None: ...

@final
class RemoteFile:
    """A byte range of a file of a server. Offsets count from the start of the range.

    All methods raise ``ConnectionResetError`` if the server has gone, ``TimeoutError`` after the client's timeout, and
    ``OSError`` with the errno of a request that failed.
    """

    def pread(self, size: int, offset: int = 0) -> bytes:
        """Reads up to ``size`` bytes: fewer only at the end of the file, or where an error came after some bytes."""

    def pread_into(self, buffer: Buffer, offset: int = 0) -> int:
        """Reads into a contiguous buffer of bytes, and returns their number."""

    def pwrite(self, data: Buffer, offset: int = 0) -> int:
        """Writes bytes, and returns how many were written."""

    def sync(self) -> None:
        """Waits until what was written is on stable storage."""

    def close(self) -> None:
        """Gives the file back to the server."""

    @property
    def name(self) -> str:
        """Name of the file."""

    @property
    def size(self) -> int:
        """Bytes that the file held when it was opened."""

    @property
    def rights(self) -> str:
        """Of ``r``, ``w`` and ``s``: reads, writes, syncs."""

    @property
    def alignment(self) -> int:
        """Offsets and sizes must be multiples of this."""
