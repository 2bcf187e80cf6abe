"""The command line `marl-study`: a module for each group of commands, which import what they need when they run.

Results go to stdout, everything else to stderr. Exit status: 0 when the command succeeded, 1 when it failed, 2 when
its arguments are wrong, 130 after Ctrl-C.
"""

import io
import sys
import warnings

__all__ = ["main"]


def main() -> None:
    """Run a command. An error is reported in one line that says what to do."""
    try:
        from study.cli.app import app  # imported here, so that Ctrl-C is handled while modules are imported
        from study.cli.common import exit_status, show_warning

        warnings.showwarning = show_warning
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # not every encoding has all characters
        sys.exit(exit_status(app))
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
