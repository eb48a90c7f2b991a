"""What one run of the embed stage did, as people and programs read it."""

import re
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True, kw_only=True)
class EmbedResult:
    """What one run of the embed stage did."""

    pairs: int
    """Accepted rows of the table."""
    rejected: int
    """Rows left out, with their reasons in `rejected.csv` of the store."""
    antibodies: int
    """Distinct, of the whole table."""
    antigens: int
    single_chain: int
    """Distinct antibodies without light chain."""
    windowed: int
    """Distinct antigens longer than one window."""
    store: str
    precision: dict[str, str]
    fingerprints: dict[str, str]
    """Folders of the store by what they hold: `paired`, `single`, `antigen`."""
    revisions: dict[str, str]
    normalised: dict[str, int]
    warnings: list[str]
    part: str
    table_digest: str = field(default="", repr=False)
    """SHA-256 of the table."""
    lengths: dict[str, list[tuple[int, int]]] = field(default_factory=dict, repr=False)
    """Of `antibodies` and `antigens`: residues, and how many distinct sequences have so many."""
    compile: dict[str, str] = field(default_factory=dict)
    """Whether the encoder of a phase was compiled, and why."""
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    padded_tokens: int = field(default=0, repr=False)
    encoding_seconds: float = 0.0
    busy_seconds: float = field(default=0.0, repr=False)
    setup_seconds: float = 0.0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    stopped: bool = False

    def as_json(self) -> dict[str, object]:
        """List the result as `embed --json` prints it."""
        hidden = ("table_digest", "lengths", "padded_tokens", "encoding_seconds", "busy_seconds")
        names = [name for name in self.__dataclass_fields__ if name not in hidden]
        return {name: getattr(self, name) for name in names} | {
            "padding_fraction": 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0,
            "waited_fraction": 1 - self.busy_seconds / self.encoding_seconds if self.encoding_seconds else 0.0,
            "tokens_per_second": self.tokens / self.encoding_seconds if self.encoding_seconds else 0.0,
        }


def peak_memory_bytes() -> int:
    """Tell the most memory this process has had resident."""
    try:  # ru_maxrss counts the parent's memory too, as it was when this process was started
        high_water = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        high_water = None
    if high_water:
        return int(high_water[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
