"""``python -m runner`` is ``tutelage``."""

from runner.surroundings import clean_path

clean_path()  # before anything is imported that a file of the user could stand in the place of

from runner.cli import main  # noqa: E402

raise SystemExit(main())
