"""What several kinds of tasks have in common."""
