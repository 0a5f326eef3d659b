"""report: a run folder -> ``report.json`` for machines and one self-contained ``report.html`` for people.

Read-only: it reads what the stages wrote, and no stage calls it. Knows the stages' files, not the stages.
"""
