"""The client and `vyre-io serve`. The step `python` of `cargo xtask ci` names the program."""

import os
import signal
import subprocess
import time

import pytest

from vyre_io.client import Client

PROGRAM = os.environ.get("VYRE_IO_PROGRAM")
DATA = b"".join(at.to_bytes(4, "little") for at in range(100_000))

pytestmark = pytest.mark.skipif(not PROGRAM, reason="VYRE_IO_PROGRAM names no program vyre-io")


@pytest.fixture
def serve(tmp_path):
    """Starts a server of the files "data" (its bytes from 4096 on) and "scratch", and returns it and its socket."""
    data, scratch, where = tmp_path / "data", tmp_path / "scratch", tmp_path / "socket"
    data.write_bytes(DATA)
    scratch.write_bytes(bytes(1 << 20))
    files = ["--file", f"data={data}:r:4k-", "--file", f"scratch={scratch}:rws"]
    command = [PROGRAM, "serve", "--socket", str(where), "--log", "warn", *files]
    servers = []

    def start():
        servers.append(subprocess.Popen(command))
        deadline = time.monotonic() + 30
        while True:
            try:
                Client(where).close()
                return servers[-1], where
            except (FileNotFoundError, ConnectionRefusedError):
                assert servers[-1].poll() is None and time.monotonic() < deadline
                time.sleep(0.02)

    yield start
    for server in servers:
        server.kill()
        server.wait()


def test_a_client_reads_and_writes(serve, tmp_path):
    server, where = serve()
    with Client(where, name="pytest") as client:
        assert [file["name"] for file in client.files()] == ["data", "scratch"]
        data = client.open("data")
        assert data.pread(len(DATA)) == DATA[4096:]
        assert data.pread(8, len(DATA) - 4096 - 3) == DATA[-3:]
        with pytest.raises(PermissionError):
            data.pwrite(b"x")
        with pytest.raises(FileNotFoundError):
            client.open("secrets")
        scratch = client.open("scratch")
        assert scratch.pwrite(DATA[:300_000], 77) == 300_000
        scratch.sync()
        assert (tmp_path / "scratch").read_bytes()[77:300_077] == DATA[:300_000]
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def test_a_killed_server_is_noticed_and_another_one_serves(serve):
    server, where = serve()
    client = Client(where)
    data = client.open("data")
    server.kill()
    server.wait()
    with pytest.raises(ConnectionResetError):
        while True:
            data.pread(100)
    client.close()
    os.unlink(where)
    serve()
    with Client(where) as client:
        assert client.open("data").pread(4) == DATA[4096:4100]
