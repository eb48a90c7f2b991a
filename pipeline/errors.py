"""What can go wrong above the two stages through no fault of ours."""


class ConfigError(Exception):
    """A mistake in the config or the command; the message names the value, the rule and the way out."""

    exit_code = 2


class WorkerError(ConfigError):
    """A worker that failed through no mistake of the user's; the message is its own."""

    exit_code = 1
