"""This machine and this process: versions, signals, paths, errors. Knows nothing of the pipeline."""
