"""Where torch keeps what it compiles: in the user's own cache, not under a name in /tmp that anyone may take first."""

import os
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled_private() -> None:
    """Point torch's compiler to the user's cache, unless it is pointed somewhere or that cannot be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    existing = next((path for path in (base, *base.parents) if path.exists()), base)
    if os.access(existing, os.W_OK):
        os.environ.setdefault(_VARIABLE, str(base / "bindcache-compiled"))
