"""Pages that show what came of a run, a sweep or an embedding."""
