"""``python -m gflow``."""

from gflow.cli.main import main

if __name__ == "__main__":
    main()
