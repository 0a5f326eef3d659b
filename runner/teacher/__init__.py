"""The teacher: prompts, engines, answers, calibration."""
