"""What can go wrong in the train stage through no fault of ours."""


class TrainError(Exception):
    """A mistake the user can mend; the message names the value, the rule and the way out."""

    exit_code = 2


class DivergedError(TrainError):
    """A training whose loss is no finite number any more."""
