"""`bindcache bench`: what each of ten optimisations is worth, alone taken away and one added after the other."""
