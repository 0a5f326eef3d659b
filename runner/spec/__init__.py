"""The spec language: one YAML file in, one checked and complete ``Spec`` out."""

from runner.spec.fields import schema
from runner.spec.files import check_files, resolve_path
from runner.spec.load import check_spec, load_spec
from runner.spec.model import Spec
from runner.spec.starter import STARTER, starter

__all__ = ["STARTER", "Spec", "check_files", "check_spec", "load_spec", "resolve_path", "schema", "starter"]
