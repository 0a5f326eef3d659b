"""A finished run for others: model card, data card, repositories on the Hub."""
