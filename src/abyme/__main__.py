"""``python -m abyme`` is the command ``abyme``."""

from abyme.apps.cli.main import main

if __name__ == "__main__":
    main()
