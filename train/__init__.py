"""Stage 2: a store becomes a regressor of pKd."""
