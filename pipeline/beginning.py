"""What a table of so many pairs is begun with: vectors that are looked up, while pairs are few."""

FEW_PAIRS = 1000
"""Below this, a baseline without a model comes first (benchmarks/NOTES.md)."""

BEGIN_WITH = "onehot"


def begins_without_model(pairs: int) -> bool:
    """Tell whether a table is so small that vectors without a model are the ones to begin with."""
    return pairs < FEW_PAIRS


def embed_section() -> list[str]:
    """Write the section [embed] of a config to begin with."""
    return ["[embed]", f'antibody = "{BEGIN_WITH}"', f'antigen = "{BEGIN_WITH}"', 'store = "store"']
