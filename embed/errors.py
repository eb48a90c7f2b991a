"""What can go wrong in the embed stage through no fault of ours."""


class EmbedError(Exception):
    """A mistake the user can mend; the message names the value, the rule and the way out."""

    exit_code = 2


class PairsError(EmbedError, ValueError):
    """The pairs table cannot be used as it is."""


class StoreError(EmbedError):
    """The store cannot be used as it is."""


class EncoderError(EmbedError):
    """An encoder cannot be loaded or run as asked."""
