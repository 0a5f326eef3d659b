"""The stages, one module each; their order stands in ``runner/stages/pipeline.py`` alone."""
