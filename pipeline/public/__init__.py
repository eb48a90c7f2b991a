"""`bindcache import`: public tables of affinities become pairs tables; one module for each layout."""
