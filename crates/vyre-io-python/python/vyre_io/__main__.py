"""`python -m vyre_io doctor [PATH …]`: reports what this machine offers."""

import argparse
import os
import platform
import sys
import tempfile

import vyre_io


def _trial(directory):
    """Writes a file and reads it back. Returns how, or raises an OSError."""
    with tempfile.NamedTemporaryFile(dir=directory) as named:
        written = os.urandom(256 << 10)
        with vyre_io.File(named.name, "r+") as file:
            file.pwrite(written).result(10)
            file.sync().result(10)
            read = bytearray(len(written))
            count = file.pread(read).result(10)
    if count != len(written) or read != written:
        raise OSError(f"{count} bytes were read back, or other ones than were written")


def doctor(paths):
    """Prints the report. Returns whether everything works."""
    print(f"vyre-io    {vyre_io.__version__}")
    print(f"python     {platform.python_version()} ({sys.executable})")
    print(f"kernel     {platform.release()} ({platform.machine()})")
    try:
        engine = vyre_io.default_engine()
    except OSError as error:
        print(f"engine     FAILED: {error}")
        return False
    print(f"engine     {engine.transport}")
    works = True
    for path in paths:
        directory = path if os.path.isdir(path) else os.path.dirname(path) or "."
        try:
            _trial(directory)
        except OSError as error:
            print(f"{directory}: FAILED: {error}")
            works = False
        else:
            print(f"{directory}: written, made durable and read back")
    return works


def main():
    parser = argparse.ArgumentParser(prog="python -m vyre_io")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="report what this machine offers")
    command.add_argument("paths", nargs="*", default=["."], help="directories to try (default: this one)")
    arguments = parser.parse_args()
    sys.exit(0 if doctor(arguments.paths) else 1)


if __name__ == "__main__":
    main()
