"""Names of files for keys of any characters and length."""

import hashlib
import os
import time
import urllib.parse

_SUFFIX = ".kv"
_TEMPORARY = ".new"
# File systems allow 255 bytes.
_LONGEST = 200
_KEPT = 96
# Seconds after which nobody writes a temporary file any more.
_ABANDONED = 3600


def file_name(key):
    """Returns the name for a key, which no other key has."""
    quoted = urllib.parse.quote(key, safe="@", errors="surrogatepass")
    if len(quoted) > _LONGEST:
        # No quoted text has a "~" after a "%".
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        quoted = f"{quoted[:_KEPT]}%~{digest}"
    return quoted + _SUFFIX


def temporary_name(number):
    """Returns a name that no key has, for the file that becomes a key's once it is whole."""
    return f"{os.getpid()}-{time.time_ns()}-{number}{_TEMPORARY}"


def remove_abandoned(directory):
    """Removes what writers left behind that did not live to finish it."""
    oldest = time.time() - _ABANDONED
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith(_TEMPORARY):
                continue
            try:
                if entry.stat().st_mtime < oldest:
                    os.unlink(entry.path)
            except FileNotFoundError:
                # Another process was faster, or has finished it.
                continue
