"""``task.type: multi-label``: a value is a list of labels in the order of ``task.labels``, which may be empty."""
