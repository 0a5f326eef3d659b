"""What a task is: one package for each kind."""
