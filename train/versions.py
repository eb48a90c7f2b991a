"""The versions of what a result rests on; read from the installed packages, without importing them."""

import platform
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("bindcache", "torch", "transformers", "numpy", "h5py", "pyarrow")


def versions() -> dict[str, str]:
    """Name the version of Python and of each library."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
