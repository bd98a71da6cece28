"""`python -m cuconv`: the command line without the installed script."""

from cuconv._cli import main

if __name__ == "__main__":
    main()
