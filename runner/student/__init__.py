"""The student: an encoder that loads, learns from label probabilities, and predicts."""
