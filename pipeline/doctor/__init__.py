"""`bindcache doctor`: what this machine and this config can do, before hours are spent."""
