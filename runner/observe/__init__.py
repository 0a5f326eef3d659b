"""What a run tells while it runs: progress, events, metrics."""
