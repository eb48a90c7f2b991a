"""The command line and what spans both stages."""
