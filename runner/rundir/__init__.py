"""The run folder, on any file system that fsspec knows: stages by fingerprint, markers last, one run at a time."""
