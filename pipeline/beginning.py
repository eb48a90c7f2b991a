"""What a table of few pairs is begun with: vectors that are looked up, and a training that suits them."""

FEW_PAIRS = 1000
"""Below this, vectors without a model come first; there, what they can learn is learnt (benchmarks/NOTES.md)."""

BEGIN_WITH = "blosum62"
"""Better than `onehot` where pairs are few, and the same where they are not (benchmarks/NOTES.md)."""
FEATURES = "standardise"
"""Whitening makes all training sequences equally distant where they are fewer than the numbers that vary."""


def begins_without_model(pairs: int) -> bool:
    """Tell whether a table is so small that vectors without a model are the ones to begin with."""
    return pairs < FEW_PAIRS


def sections() -> list[str]:
    """Write what a config to begin with says of both stages."""
    embed = ["[embed]", f'antibody = "{BEGIN_WITH}"', f'antigen = "{BEGIN_WITH}"', 'store = "store"']
    return [*embed, "", "[train]", 'run = "runs/first"', f'features = "{FEATURES}"']
