"""Which precisions, kernels and compilers work here, tried on tiny random encoders."""

from embed.config import EmbedConfig, is_table
from pipeline.doctor.findings import Finding
from pipeline.doctor.trial import COMPILE, KERNELS, PRECISIONS
from pipeline.doctor.trials import Outcome

SECONDS = 10.0
"""Limit of each trial."""
_BUILDING = 120.0
"""The kernels are built once."""

_COMPILING = 30.0
"""The first compilation loads the compiler."""

LIMITS = {KERNELS: _BUILDING, **dict.fromkeys(PRECISIONS, SECONDS), COMPILE: _COMPILING}


def judge_trial(outcome: Outcome, embed: EmbedConfig | None) -> Finding:
    """Judge a trial: what the config asks for must work, of all else one should know."""
    name = f"precision {outcome.name}" if outcome.name in PRECISIONS else outcome.name
    if not outcome.problem:
        error = f", {outcome.error:.1g} from fp32" if outcome.name in PRECISIONS and outcome.name != "fp32" else ""
        return Finding(name=name, verdict="ok", said=f"works ({outcome.seconds:.1f} s{error})")
    step, wanted = _next_step(outcome.name, embed)
    if outcome.overtime:
        step, wanted = "run this again when the machine is idle", False
    return Finding(name=name, verdict="problem" if wanted else "warning", said=outcome.problem, next_step=step)


def _next_step(name: str, embed: EmbedConfig | None) -> tuple[str, bool]:
    """Tell the way out, and whether what failed is needed."""
    if name == KERNELS:
        return "nothing: torch computes the same, slower; a C++ compiler and AVX-512 VNNI bring the kernels", False
    if name == COMPILE:
        wanted = embed is not None and embed.compile == "on"
        return 'embed.compile = "off" and train.compile = "off", or install g++ and run this again', wanted
    asked = {"int8"} if embed is None else _asked(embed)
    wanted = name in asked
    if name == "int8-bnb":
        return 'use embed.precision = "int8", or reinstall bitsandbytes', wanted
    return 'use another embed.precision: "fp32" works everywhere', wanted


def _asked(embed: EmbedConfig) -> set[str]:
    """List the precisions of the config's models; tables have none."""
    found: set[str] = set()
    if not is_table(embed.antigen):
        found.add(embed.precision_of("antigen"))
    if not all(map(is_table, {embed.antibody, embed.single_chain} - {"same", "error"})):
        found.add(embed.precision_of("antibody"))
    return found
