"""`bindcache fidelity`: what each precision makes of the user's own pairs, measured against fp32.

1. take a sample of the pairs, chosen by their keys
2. encode its distinct sequences in memory, in fp32 and then in every other precision
3. compare each precision's vectors with fp32's: error, neighbours, and what the same ridge reads from both
4. recommend the fastest precision of which the intervals show that nothing is lost
"""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from embed.pairs import PairTable
from embed.stage import read_table
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.fidelity_advice import BOUND, Candidate, Choice, choose, sentence
from pipeline.fidelity_file import keep_fidelity
from pipeline.fidelity_ridge import ridge_scores, why_not
from pipeline.fidelity_sample import ROLES, Role, residues_of, sample_pairs, sequences_of
from pipeline.fidelity_scores import Score, VectorFidelity, compare_scores, compare_vectors
from pipeline.fidelity_train import RegressorRow, RegressorTrial
from pipeline.fidelity_vectors import REFERENCE, Arm, Arms, Encoded, encode_arms, is_looked_up
from train.config import TrainConfig
from train.errors import TrainError
from train.splits import make_split

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""

EXACT = "vectors that are looked up in a table are exact in every precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one arm makes of the sequences of one role; the other role's vectors are fp32's."""

    precision: str
    vector_dtype: str
    vectors: VectorFidelity
    seconds: float
    residues_per_second: float
    ridge: dict[str, Score] | None
    """R2 and Spearman where each fifth is predicted from the others; None where they could not be judged."""


@dataclass(slots=True, kw_only=True)
class RoleFidelity:
    """All arms on the sequences of one role."""

    sequences: int
    residues: int
    not_judged: str | None
    """Why there is no ridge."""
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Arms that could not be had, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What `bindcache fidelity` found."""

    pairs: int
    """In the sample."""
    pairs_of_table: int
    bound: float
    roles: Mapping[Role, RoleFidelity]
    regressor: list[RegressorRow] | None
    """Of the A/B test; None where it was not asked for."""
    choices: Mapping[Role, Choice]
    recommendation: str
    seconds: float

    def as_json(self) -> dict[str, object]:
        """List the result as `fidelity --json` prints it."""
        return asdict(self)


def measure_fidelity(config: Config, *, sample: int, train: TrainConfig | None, progress: Progress) -> Fidelity:
    """Measure every precision on a sample of a table.

    Args:
        config: Table and encoders; the vectors of the store are left alone, its `fidelity.json` is written.
        sample: Pairs, at most.
        train: How to train the regressor on each precision's vectors; None leaves that out.
        progress: Told the residues encoded and the steps trained.

    Raises:
        ConfigError: No model reads anything.
        EmbedError: The table or a checkpoint cannot be used as it is.
        TrainError: The regressor cannot be trained as `train` says.
    """
    began = time.monotonic()
    whole = read_table(config.embed, config.pairs)
    table = sample_pairs(whole, sample)
    if train is not None:
        _refuse_untrainable(train, table)
    with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
        embed = replace(config.embed.one_vector(), store=Path(folder))  # for the memory of weights' digests alone
        exact = {role for role in ROLES if is_looked_up(embed, table, role)}
        if len(exact) == len(ROLES):
            raise ConfigError(
                f'embed.antibody = "{embed.antibody}" and embed.antigen = "{embed.antigen}": {EXACT}, so there is '
                "nothing to measure; name a hub id or a folder for one of them."
            )
        trial = None if train is None else RegressorTrial(embed, train, table, progress)
        comparison = _Comparison(table, exact)
        for arm, arms in encode_arms(embed, table, progress):
            comparison.add(arm, arms)
            vectors = {role: each for role, each in arms.items() if not isinstance(each, str)}
            if trial is not None and len(vectors) == len(ROLES):
                trial.add(arm, vectors)
    choices = {role: _choose(fidelity) for role, fidelity in comparison.roles.items() if role not in exact}
    result = Fidelity(
        pairs=len(table.id),
        pairs_of_table=len(whole.id),
        bound=BOUND,
        roles=comparison.roles,
        regressor=None if trial is None else trial.rows,
        choices=choices,
        recommendation=sentence(choices, len(table.id)),
        seconds=time.monotonic() - began,
    )
    keep_fidelity(config.embed.store, result.as_json(), whole.digest)
    return result


class _Comparison:
    """Takes the arms in, the reference first, and keeps their rows but not their vectors.

    Of roles whose vectors are exact, the reference alone has a row.
    """

    def __init__(self, table: PairTable, exact: Collection[Role]) -> None:
        self._table = table
        self._exact = exact
        self._reference: dict[Role, Encoded] = {}
        self.roles: dict[Role, RoleFidelity] = {}
        for role in ROLES:
            sequences = sequences_of(table, role)
            residues = int(residues_of(table, role).sum())
            not_judged = EXACT if role in exact else why_not(table, role)
            self.roles[role] = RoleFidelity(sequences=len(sequences), residues=residues, not_judged=not_judged)

    def add(self, arm: Arm, arms: Arms) -> None:
        """Compare an arm's vectors with the reference's."""
        if arm == REFERENCE:
            self._reference = {role: each for role, each in arms.items() if not isinstance(each, str)}
            judged = any(fidelity.not_judged is None for fidelity in self.roles.values())
            self._scored = ridge_scores(self._table, self._reference) if judged else None
        for role, fidelity in self.roles.items():
            encoded = arms[role]
            if isinstance(encoded, str):
                fidelity.skipped[arm.name] = encoded
            elif role not in self._exact or arm == REFERENCE:
                fidelity.rows.append(self._row(role, arm, encoded))

    def _row(self, role: Role, arm: Arm, encoded: Encoded) -> Row:
        return Row(
            precision=arm.precision,
            vector_dtype=arm.vector_dtype,
            vectors=compare_vectors(encoded.vector_ND, self._reference[role].vector_ND),
            seconds=encoded.seconds,
            residues_per_second=self.roles[role].residues / encoded.seconds,
            ridge=self._ridge(role, encoded),
        )

    def _ridge(self, role: Role, encoded: Encoded) -> dict[str, Score] | None:
        if self._scored is None or self.roles[role].not_judged:
            return None
        ours = self._scored
        if encoded is not self._reference[role]:
            ours = ridge_scores(self._table, {**self._reference, role: encoded})
        return compare_scores([ours], [self._scored])


def _choose(fidelity: RoleFidelity) -> Choice:
    if fidelity.not_judged:
        return Choice(precision=REFERENCE.precision, reason=fidelity.not_judged)
    candidates = [
        Candidate(precision=row.precision, seconds=row.seconds, scores=row.ridge or {})
        for row in fidelity.rows
        if row.vector_dtype == REFERENCE.vector_dtype
    ]
    return choose(candidates, REFERENCE.precision)


def _refuse_untrainable(train: TrainConfig, table: PairTable) -> None:
    """Find what training would stumble over, before anything is encoded."""
    if table.affinity_N is None:
        raise TrainError("--train needs affinities and pairs.affinity names no column; name it.")
    make_split(train, table)
