"""A kind of task that no product has: how many vowels does a text have? Its value is a number."""
