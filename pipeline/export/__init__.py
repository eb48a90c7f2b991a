"""`bindcache store export`: the vectors of one table, for other tools; one module for each format."""
