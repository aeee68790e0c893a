"""Commands that write files: `embarq new app | job`. As in `commands`, what they do is loaded when called."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.loading import load

new = typer.Typer(no_args_is_help=True, help="Write a new project, or a new job and its test.")


@new.command("app")
def new_app(name: Annotated[str, typer.Argument(help="The project's name, and its folder's.")]) -> None:
    """A project in a folder of its own: a job, its test, settings, Procfile."""
    _tell(load("scaffold").new_app(Path.cwd(), name))
    typer.echo(f"Try it: cd {name} && embarq dev, and in another terminal: embarq enqueue greet name=Ada --wait 10")


@new.command("job")
def new_job(name: Annotated[str, typer.Argument(help="The job's name, and its module's.")]) -> None:
    """A job in the project of the current folder, with a test that passes."""
    written = load("scaffold").new_job(Path.cwd(), name)
    _tell(written)
    typer.echo(f"Try it: pytest {written[-1].relative_to(Path.cwd())}")


def _tell(written: list[Path]) -> None:
    for path in written:
        typer.echo(f"wrote {path.relative_to(Path.cwd())}")
