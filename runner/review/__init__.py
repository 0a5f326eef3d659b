"""What people check: a sample that measures, a queue that mends, and the decisions that come of both."""
