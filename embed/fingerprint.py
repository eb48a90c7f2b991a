"""Which encoder reads which sequences, and where in the store its vectors belong; never imports torch."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from embed.config import EmbedConfig, Model, Precision, is_table, vectors_of
from embed.encoders.checkpoint import Checkpoint, open_checkpoint, weights_digest
from embed.encoders.lookup import Lookup
from embed.errors import EncoderError
from embed.imported import IMPORTED, is_imported, open_imported
from embed.store.schema import fingerprint_digest

_FAMILY = {"t5": "igt5", "esm": "esm2"}
_EXPECTED = {"antibody": "t5", "antigen": "esm"}
_WIDTH = {"t5": "d_model", "esm": "hidden_size"}
"""What config.json calls the width of a token's state."""
_COSMETIC = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
"""Keys of config.json that change no vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One encoder with all that decides its vectors."""

    role: Literal["antibody", "antigen"]
    family: str
    """`igt5`, `esm2`, `onehot`, `blosum62` or `imported`."""
    checkpoint: Checkpoint
    precision: Precision
    facts: dict[str, object]
    """What the fingerprint digests."""
    fingerprint: str
    """sha256 hex."""
    store: Path
    vectors: int = 1
    """That a stored vector is made of, side by side."""
    imported: Path | None = None
    """Folder of vectors that came from a file; None where the encoder makes them."""
    lookup: Lookup | None = None
    """What makes them without a model; None where one does."""

    @property
    def name(self) -> str:
        """The fingerprint's folder in the store."""
        if self.imported is not None:
            return self.imported.name
        return f"{self.family}-{self.precision}-{self.fingerprint[:16]}"

    @property
    def folder(self) -> Path:
        """Where the vectors lie."""
        return self.imported or self.store / self.name

    @property
    def dim(self) -> int:
        """Width of a stored vector."""
        if self.lookup is not None:
            return self.lookup.dim
        return self.vectors * int(str(self.checkpoint.config[_WIDTH[str(self.checkpoint.config["model_type"])]]))

    @property
    def resolved(self) -> dict[str, str]:
        """Where the weights came from; recorded beside the fingerprint, not part of it."""
        return {"model": self.checkpoint.model, "revision": self.checkpoint.revision}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The encoders of one config."""

    paired: Source
    """Reads antibodies with both chains."""
    single: Source
    """Reads antibodies without light chain; the same as `paired` unless the config names another."""
    antigen: Source


def find_sources(config: EmbedConfig) -> Sources:
    """Open the checkpoints of a config and fingerprint them.

    Raises:
        EncoderError: A checkpoint is missing, has no safetensors, or is of the wrong family.
    """
    paired = _source(config, "antibody", config.antibody, config.antibody_revision)
    single = paired
    if config.single_chain not in ("same", "error"):
        single = _source(config, "antibody", config.single_chain, config.single_chain_revision)
    return Sources(
        paired=paired,
        single=single,
        antigen=_source(config, "antigen", config.antigen, config.antigen_revision),
    )


def _source(config: EmbedConfig, role: Literal["antibody", "antigen"], model: Model, revision: str) -> Source:
    if is_table(model):
        return _looked_up(config, Lookup(model, role))
    if is_imported(model):
        return _imported(config, role, model)
    checkpoint = open_checkpoint(model, revision)
    kind = str(checkpoint.config.get("model_type"))
    if kind != _EXPECTED[role]:
        raise EncoderError(
            f"embed.{role} = {model!r} is a model of type {kind!r}; the {role} encoder is of type "
            f"{_EXPECTED[role]!r} ({_FAMILY[_EXPECTED[role]]})."
        )
    width = checkpoint.config.get(_WIDTH[kind])
    if not isinstance(width, int) or width < 1:
        raise EncoderError(f"{model}: its config.json has {_WIDTH[kind]} = {width!r}; fetch the model again.")
    checkpoint = replace(checkpoint, digest=weights_digest(checkpoint, config.store / "weights.json"))
    facts = _facts(config, role, checkpoint)
    return Source(
        role=role,
        family=_FAMILY[kind],
        checkpoint=checkpoint,
        precision=config.precision_of(role),
        facts=facts,
        fingerprint=fingerprint_digest(facts),
        store=config.store,
        vectors=vectors_of(config.pooling) if role == "antibody" else 1,
    )


def _imported(config: EmbedConfig, role: Literal["antibody", "antigen"], model: Model) -> Source:
    checkpoint, facts, fingerprint = open_imported(model, role)
    return Source(
        role=role,
        family=IMPORTED,
        checkpoint=checkpoint,
        precision=config.precision_of(role),
        facts=dict(facts),
        fingerprint=fingerprint,
        store=config.store,
        imported=checkpoint.folder,
    )


def _looked_up(config: EmbedConfig, lookup: Lookup) -> Source:
    facts = lookup.facts | {"vector_dtype": config.vector_dtype}
    return Source(
        role=lookup.role,
        family=lookup.name,
        checkpoint=Checkpoint(model=lookup.name, revision="", folder=config.store, config={}, weights=()),
        precision="fp32",  # whatever the config says: the table is exact
        facts=facts,
        fingerprint=fingerprint_digest(facts),
        store=config.store,
        lookup=lookup,
    )


def _facts(config: EmbedConfig, role: Literal["antibody", "antigen"], checkpoint: Checkpoint) -> dict[str, object]:
    precision, family = config.precision_of(role), _FAMILY[str(checkpoint.config["model_type"])]
    facts: dict[str, object] = {
        "encoder": family,
        "architecture": {k: v for k, v in checkpoint.config.items() if k not in _COSMETIC},
        "weights": checkpoint.digest,
        "precision": _precision_facts(precision, config.threshold, family),
        "attention": "softmax, exact",
        "residues": "B, O, U, Z -> X",
        "vector_dtype": "float16" if config.pooling == "residues" else config.vector_dtype,
        "libraries": {name: _major(name) for name in ("torch", "transformers")},
    }
    pooling = "none, float16, residues" if config.pooling == "residues" else "mean, float32, residues"
    if role == "antibody":
        if config.pooling in ("chains", "card"):
            pooling = f"mean, float32, {config.pooling}"
        return facts | {"input": "heavy </s> light </s>", "pooling": pooling}
    long = {"policy": config.long, "window": config.window}
    if config.long == "window":
        long["stride"] = config.stride
    return facts | {"input": "<cls> antigen <eos>", "pooling": pooling, "long": long}


def _precision_facts(precision: Precision, threshold: float, family: str) -> dict[str, object]:
    if precision in ("int8", "int8-fast"):
        terms = "two-term" if precision == "int8" else "one-term"
        return {"name": precision, "activations": f"{terms} int8, a scale a token", "elsewhere": "float32"}
    if precision == "int8-bnb":
        backend = f"bitsandbytes {version('bitsandbytes')}"
        return {"name": precision, "backend": backend, "threshold": threshold, "elsewhere": "bfloat16"}
    if precision == "fp16" and family == "igt5":
        return {"name": precision, "residual": "float32"}
    return {"name": precision}


def _major(library: str) -> str:
    return version(library).partition(".")[0]
