"""The config reference in the README, written from the docstrings of the config classes.

`python -m pipeline.reference README.md` brings it up to date; a test fails when it is not.
"""

import sys
from pathlib import Path

from pipeline.config import SECTIONS
from pipeline.fields import field_docs

BEGIN, END = "<!-- config reference: begin -->", "<!-- config reference: end -->"


def reference() -> str:
    """Write a Markdown table of every section's fields: name, what it takes, default, what it is."""
    lines = []
    for section, config_class in SECTIONS.items():
        lines += ["", f"| `[{section}]` | takes | default | |", "|---|---|---|---|"]
        for field in field_docs(config_class):
            default = field.default if field.default == "required" else f"`{field.default}`"
            lines.append(f"| `{field.name}` | {field.type} | {default} | {field.doc} |")
    return "\n".join([*lines, ""])


def renew(text: str) -> str:
    """Replace what stands between the two markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(renew(readme.read_text("utf-8")), "utf-8")
