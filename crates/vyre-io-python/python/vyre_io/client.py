"""Files of a server, such as ``vyre-io serve``, which this process need not be able to open.

>>> from vyre_io.client import Client
>>> with Client("/run/vyre-io.sock") as client:                     # doctest: +SKIP
...     weights = client.open("weights")
...     head = weights.pread(4096)
"""

from ._native import Client, RemoteFile

__all__ = ["Client", "RemoteFile"]
