"""Which precision to take: a pure function of the measured intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.fidelity_sample import Role
from pipeline.fidelity_scores import Score

BOUND = 0.02
"""Loss of R2 or of Spearman against fp32 that is still called none: a little more than 2,000 pairs leave in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A precision, the seconds it took, and its scores with their differences to fp32's."""

    precision: str
    seconds: float
    scores: Mapping[str, Score]

    @property
    def is_harmless(self) -> bool:
        """Tell whether no interval holds a loss above the bound."""
        return all(score.low is not None and score.low >= -BOUND for score in self.scores.values())

    @property
    def is_undecided(self) -> bool:
        """Tell whether an interval holds such a loss, and none lies wholly beyond the bound."""
        possible = all(score.high is None or score.high >= -BOUND for score in self.scores.values())
        return possible and not self.is_harmless


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The precision to take for one role."""

    precision: str
    undecided: tuple[str, ...] = ()
    """Faster precisions that more pairs might prove harmless."""
    reason: str = ""
    """Why nothing could be judged; then the choice is the reference."""


def choose(candidates: Sequence[Candidate], reference: str) -> Choice:
    """Take the fastest candidate that is harmless; the reference always is."""
    harmless = [each for each in candidates if each.precision == reference or each.is_harmless]
    best = min(harmless, key=lambda each: each.seconds)
    faster = [each for each in candidates if each.seconds < best.seconds and each.is_undecided]
    return Choice(precision=best.precision, undecided=tuple(each.precision for each in faster))


def sentence(choices: Mapping[Role, Choice], pairs: int) -> str:
    """Put the choices for both roles into one sentence."""
    judged = {role: choice for role, choice in choices.items() if not choice.reason}
    reasons = list(dict.fromkeys(choice.reason for choice in choices.values() if choice.reason))
    if not judged:
        return f"No recommendation: {' and '.join(reasons)}, so nothing tells what a precision loses."
    picked = {choice.precision for choice in judged.values()}
    if len(judged) == len(choices) and len(picked) == 1:
        taken = f'embed.precision = "{picked.pop()}"'
    else:
        taken = " and ".join(f'embed.{role}_precision = "{choice.precision}"' for role, choice in judged.items())
    text = f"Take {taken}: the fastest whose ridge, at 95 %, loses at most {BOUND} of R2 and of Spearman against fp32"
    for role, choice in judged.items():
        if choice.undecided:
            text += f"; {', '.join(choice.undecided)} ({role}): faster, but undecided by {pairs:,} pairs"
    for role, choice in choices.items():
        if choice.reason:
            text += f'; embed.{role}_precision = "{choice.precision}", as {choice.reason}'
    return f"{text}."
