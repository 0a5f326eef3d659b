"""What people check: the sample that measures, the queue that mends, their corrections."""
