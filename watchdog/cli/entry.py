"""The command line as a whole: its commands, and how every failure ends in one sentence and an exit code."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from watchdog import __version__
from watchdog.cli import backtest, calibrate, daemon, deploys, export, init, operate, quality, sensitivity, verify_audit
from watchdog.errors import ConfigError, WatchdogError

PROGRAM = "deploy-watchdog"
USAGE = 4

app = typer.Typer(
    name=PROGRAM,
    help="Watches every deploy, judges it, and rolls it back once when it is worse.",
    rich_markup_mode=None,  # plain help: rich costs half of the time that --help may take
    pretty_exceptions_enable=False,
)
for module in (init, daemon, deploys, operate, quality, verify_audit, export, backtest, sensitivity, calibrate):
    module.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None and not version:
        typer.echo(context.get_help())


def command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors go to stderr, each with its remedy."""
    try:
        result = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except ConfigError as error:
        return _failed(error.message)
    except WatchdogError as error:
        return _failed(f"error: {error.message}")
    except OSError as error:  # a file that cannot be what the command was told it is
        return _failed(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except typer.TyperException as error:  # an unknown option, a missing argument
        return _failed(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        return _failed("stopped", code=130)
    return result if isinstance(result, int) else 0


def _failed(sentence: str, *, code: int = USAGE) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{sentence}\n")
    return code


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else PROGRAM
    said = (
        error.format_message()
        .rstrip(".")
        .replace("\n", " ")
        .replace("Value error, ", "")
        .replace("Input should be", "expected")
    )
    return f"error: {said}{'' if said.endswith('?') else ';'} see '{where} --help'"
