"""Rows from files and from the Hub, and predictions back into files."""
