"""What `--set` says: a section, a key and a value."""

import tomllib

from pipeline.errors import ConfigError


def parse_override(override: str) -> tuple[str, str, object]:
    """Read `section.key=value`, the value in TOML or a bare word.

    Raises:
        ConfigError: It is not of this form.
    """
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and key):
        raise ConfigError(f"--set {override}: write section.key=value, such as embed.precision=fp32.")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return section, key, text.strip()
    return section, key, parsed["value"] if len(parsed) == 1 else text
