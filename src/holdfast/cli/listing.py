"""A group of commands that lists when none of them is named."""

from __future__ import annotations

from typing import Final

import click

_HELP: Final = ("-h", "--help")


class Listing(click.Group):
    """`holdfast queues` is `holdfast queues ls`, with its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `ls` before options that no command stands before."""
        named = bool(args) and (not args[0].startswith("-") or args[0] in _HELP)
        return super().parse_args(ctx, args if named else ["ls", *args])
