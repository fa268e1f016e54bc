"""The command line: reads the environment and the configuration file, joins the parts, shows what came of it."""

from __future__ import annotations


def main() -> None:
    """The program `holdfast`."""
    from holdfast.cli.main import run

    raise SystemExit(run())


__all__ = ["main"]
