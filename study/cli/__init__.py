"""The command line `marl-study`: one file for each group of commands, imported when a command needs it."""

__all__ = ["main"]


def main() -> None:
    """Run `marl-study` with the arguments of the process."""
    from study.cli.app import main as run_app

    run_app()
