"""The sections of a spec: of each its dataclasses, and the rules that its fields have to keep."""
