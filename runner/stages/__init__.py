"""The stages, one module each; their order stands in ``runner/pipeline.py`` alone."""
