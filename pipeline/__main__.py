"""`python -m pipeline`, for developers; users have the command `bindcache`."""

from pipeline.cli import main

main(prog_name="bindcache")
