"""The order in which the doctor looks at things."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from embed.config import is_table
from embed.encoders.checkpoint import Checkpoint
from embed.errors import EmbedError
from embed.pairs import PairTable
from pipeline.config import Config
from pipeline.doctor.arithmetic import LIMITS, judge_trial
from pipeline.doctor.encoders import look_at_encoders
from pipeline.doctor.findings import Finding
from pipeline.doctor.machine import available_memory, look_at_machine
from pipeline.doctor.software import look_at_software
from pipeline.doctor.trial import RATE, TINY_RATE, TRAIN, tiny_operations
from pipeline.doctor.trials import Outcome, run_trials
from pipeline.doctor.work import (
    RoleWork,
    embed_time,
    look_at_baseline,
    look_at_room,
    look_at_table,
    needs_memory,
    operations,
    train_time,
    work_left,
)

_RATE_SECONDS = 120.0
"""Limit of loading a real encoder and measuring it."""
_TRAIN_SECONDS = 30.0


def examine(config: Config | None, path: Path | None, sets: Sequence[str]) -> Iterator[Finding]:
    """Look at the machine, and with a config also at its encoders, table, disk and time; yield each finding."""
    yield from look_at_software()
    yield from look_at_machine()
    if config is None:
        for outcome in run_trials(LIMITS, config=None, sets=[]):
            yield judge_trial(outcome, None)
        return
    checkpoints: dict[str, Checkpoint] = {}
    whole = True
    for finding, checkpoint in look_at_encoders(config.embed):
        yield finding
        whole &= finding.verdict != "problem"
        if checkpoint is not None:
            checkpoints[finding.name.split()[0]] = checkpoint
    finding, table = look_at_table(config.embed, config.pairs)
    yield finding
    if table is not None and (baseline := look_at_baseline(config.embed, table)) is not None:
        yield baseline
    work, failure = _work(config, table, whole)
    if failure is not None:
        yield failure
    yield look_at_room(config.embed, work)
    if work == []:
        yield Finding(name="embed", verdict="ok", said="nothing is left to encode")
    yield from _tried(config, path, sets, table, work or [], checkpoints)


def _work(config: Config, table: PairTable | None, whole: bool) -> tuple[list[RoleWork] | None, Finding | None]:
    if table is None or not whole:
        return None, None
    try:
        return work_left(config.embed, table), None
    except EmbedError as error:
        step = "bindcache store verify tells more; mend what it names"
        return None, Finding(name="store", verdict="problem", said=str(error), next_step=step)


def _tried(
    config: Config,
    path: Path | None,
    sets: Sequence[str],
    table: PairTable | None,
    work: list[RoleWork],
    checkpoints: dict[str, Checkpoint],
) -> Iterator[Finding]:
    """Run the trials, and estimate times from what they measured."""
    limits = dict(LIMITS) if _wants_models(config) else {}
    memory = available_memory()
    for role in work:
        if role.looked_up:
            said = f"{role.looked_up:,} sequences are looked up in a table: seconds"
            yield Finding(name=f"embed {role.role}", verdict="ok", said=said)
        here = checkpoints.get(role.role)
        if here is None or not role.tokens:  # nothing for a model to read, or another one than the role's reads it
            continue
        fits = memory is None or needs_memory(here) < memory / 2
        limits[f"{RATE if fits else TINY_RATE}{role.role}"] = _RATE_SECONDS
    if config.train is not None and table is not None:
        limits[TRAIN] = _TRAIN_SECONDS
    by_role = {role.role: role for role in work}
    for outcome in run_trials(limits, config=path, sets=sets):
        kind, _, name = outcome.name.rpartition(" ")
        if outcome.name in LIMITS:
            yield judge_trial(outcome, config.embed)
        elif outcome.problem:
            yield _no_estimate(outcome)
        elif outcome.name == TRAIN and config.train is not None and table is not None:
            residues = config.embed.pooling == "residues"
            yield train_time(config.train, table, outcome.rate, residues=residues)
        elif f"{kind} " == RATE:
            yield embed_time(by_role[name], outcome.rate, "this encoder, measured here")
        else:
            share = tiny_operations() / operations(checkpoints[name])
            how = "a tiny encoder's, scaled by its size: a rough guess"
            yield embed_time(by_role[name], outcome.rate * share, how)


def _wants_models(config: Config) -> bool:
    embed = config.embed
    return not all(map(is_table, {embed.antibody, embed.antigen, embed.single_chain} - {"same", "error"}))


def _no_estimate(outcome: Outcome) -> Finding:
    step = "no telling how long it takes: try `bindcache embed` on the first hundred rows"
    return Finding(name=f"time ({outcome.name})", verdict="warning", said=outcome.problem, next_step=step)
