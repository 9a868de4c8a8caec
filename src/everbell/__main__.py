"""``python -m everbell`` is ``everbell``."""

from everbell.cli.main import main

if __name__ == "__main__":
    main()
