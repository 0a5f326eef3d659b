"""The spec language: one YAML file in, one checked and complete ``Spec`` out."""

from runner.spec.fields import schema
from runner.spec.load import load_spec
from runner.spec.model import Spec
from runner.spec.paths import resolve_path
from runner.spec.starter import STARTER, starter

__all__ = ["STARTER", "Spec", "load_spec", "resolve_path", "schema", "starter"]
