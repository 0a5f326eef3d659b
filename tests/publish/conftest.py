"""Run folders as the stages leave them, made in an instant."""

from run_folders import folder, hostile, run_folder

__all__ = ["folder", "hostile", "run_folder"]
