"""Parameters that several commands take."""

from typing import Annotated

import typer


def _seconds(value: float) -> float:
    """Refuse negative waits, and NaN: written as `not >=`, because every comparison with NaN is false."""
    if not value >= 0:
        raise typer.BadParameter(f"{value} must be seconds, 0 or more")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[float, typer.Option(callback=_seconds, help="Seconds to wait for the end.")]
