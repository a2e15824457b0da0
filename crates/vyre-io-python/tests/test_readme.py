"""The programs of the documents run."""

import importlib.util
import pathlib
import re
import sys

import pytest
from conftest import gpu

PACKAGE = pathlib.Path(__file__).parents[1]
DOCUMENTS = [PACKAGE / "README.md"]
# That of the repository, if the package is in it.
if (ROOT := PACKAGE.parents[1] / "README.md").exists():
    DOCUMENTS.append(ROOT)


def programs(document):
    text = document.read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.parent.name)
def test_the_programs_run_in_order(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = programs(document)
    assert found, f"{document} has no program"
    for program in found:
        if program.startswith("# Needs a GPU") and not gpu():
            sys.stderr.write("SKIPPED: a program of the README: there is no GPU\n")
            continue
        if program.startswith("# Needs a GPU, and CuPy") and importlib.util.find_spec("cupy") is None:
            sys.stderr.write("SKIPPED: a program of the README: there is no CuPy\n")
            continue
        exec(compile(program, str(document), "exec"), {"__name__": "__main__"})
