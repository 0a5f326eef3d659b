"""``python -m runner`` is ``tutelage``."""

from runner.cli import main

raise SystemExit(main())
