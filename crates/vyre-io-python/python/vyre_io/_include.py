"""The headers for kernels."""

import os


def include():
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")
