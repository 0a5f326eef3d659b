"""``python -m runner`` is ``tutelage``."""

from runner.system.surroundings import clean_path

clean_path()  # before anything is imported that a file of the user could stand in the place of

from runner.commands.cli import main  # noqa: E402

raise SystemExit(main())
