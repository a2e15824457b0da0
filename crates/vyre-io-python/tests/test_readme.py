"""The programs of the documents run."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import gpu

PACKAGE = pathlib.Path(__file__).parents[1]
REPOSITORY = PACKAGE.parents[1]
# Those of the repository, if the package is in it.
DOCUMENTS = [
    path
    for path in [PACKAGE / "README.md", REPOSITORY / "README.md", REPOSITORY / "docs" / "python.md"]
    if path.exists()
]
REQUIREMENTS = {
    "a GPU": gpu,
    "CuPy": lambda: importlib.util.find_spec("cupy") is not None,
    "PyTorch": lambda: importlib.util.find_spec("torch") is not None,
}


def programs(document):
    return re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def missing(program):
    """Returns what a program needs, by its first line, and is not here."""
    needs = re.match(r"# Needs (.*)\.\n", program)
    return [need for need in re.split(", and |, ", needs[1]) if not REQUIREMENTS[need]()] if needs else []


ALL = [
    pytest.param(document, at, id=f"{document.parent.name}/{document.name}:{at}")
    for document in DOCUMENTS
    for at in range(len(programs(document)))
]


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """The directories of the documents, and which of their programs have run there."""
    return {document: (tmp_path_factory.mktemp("programs"), set()) for document in DOCUMENTS}


def test_each_document_has_programs():
    assert {document for document, _ in (param.values for param in ALL)} == set(DOCUMENTS)


@pytest.mark.parametrize("document, number", ALL)
def test_the_programs_run_in_order(document, number, homes):
    found = programs(document)
    if lacking := missing(found[number]):
        pytest.skip(f"there is no {' and no '.join(need.removeprefix('a ') for need in lacking)}")
    home, done = homes[document]
    # Also those before it, if this test runs alone: they write the files that it reads.
    for at, program in enumerate(found[: number + 1]):
        if at in done or missing(program):
            continue
        script = home / f"program{at}.py"
        script.write_text(program)
        command = [sys.executable, "-X", "faulthandler", "-W", "error", script.name]
        ran = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0 and not ran.stderr, f"program {at} of {document}:\n{ran.stdout}{ran.stderr}"
        done.add(at)
