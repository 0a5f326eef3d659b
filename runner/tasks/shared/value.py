"""What a row's answer is, whatever the kind of task."""

from typing import Any

Value = Any
"""Always JSON-able: for ``single-label`` a label."""
