"""What a job would take, before anything is spent: rows, tokens, memory, time, cost."""
