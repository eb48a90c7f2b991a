"""Stage 1: a pairs table becomes a store of one vector per distinct sequence."""
