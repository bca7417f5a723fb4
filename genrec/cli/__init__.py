"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr.

Heavy imports happen inside the commands, so that `genrec --help` answers at once.
"""

from .main import entry, main

__all__ = ["entry", "main"]
