"""``python -m trackside``: the command line, where the script ``trackside`` is not on the path."""

from trackside.cli.main import main

if __name__ == "__main__":
    main(prog_name="trackside")
