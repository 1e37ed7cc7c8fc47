"""The root command: finds the subcommands, turns failures into messages and exit codes."""

import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

import embcli.commands
from embcli import __version__
from embcli.config import debug
from embcli.errors import EmbcliError
from embcli.options import example
from embcli.output import report_error, to_stderr

HELP = "Turn files into vectors and search them: from a shell, in one SQLite file."
START = (
    "Start here:  [bold]embcli encode corpus.jsonl[/bold]  "
    'then  [bold]embcli search "a question"[/bold]'
)


def build_app() -> typer.Typer:
    """Make the application, with one subcommand for every module in `embcli.commands`.

    A module offers either ``command``, a function, or ``app``, a Typer with subcommands; and
    ``PANEL``, the group it is listed under, and ``EXAMPLE``, a line that runs.
    """
    app = typer.Typer(
        name="embcli",
        help=HELP,
        epilog=START,
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    modules = (
        import_module(f"embcli.commands.{found.name}")
        for found in pkgutil.iter_modules(embcli.commands.__path__)
    )
    for module in sorted(modules, key=lambda module: module.ORDER):
        name = module.__name__.rpartition(".")[2]
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, rich_help_panel=module.PANEL)
        else:
            app.command(
                name,
                help=_reflowed(module.command.__doc__),
                rich_help_panel=module.PANEL,
                epilog=example(module.EXAMPLE),
            )(module.command)
    return app


def _reflowed(docstring: str) -> str:
    """Join the lines of every paragraph: the terminal's width breaks them, not the source's."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"embcli {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Show the version.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Hold the options of the root command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` by default.
    """
    try:
        command = get_command(build_app())
        code = command.main(
            list(sys.argv[1:] if arguments is None else arguments),
            prog_name="embcli",
            standalone_mode=False,
        )
        sys.stdout.flush()
        if code == 128 + signal.SIGINT:  # what Typer makes of Ctrl-C
            return _interrupted(code)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _closed_pipe()
    except EmbcliError as error:
        if debug():
            raise
        report_error(error)
        return error.exit_code
    except TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, Abort):
        return _interrupted(128 + signal.SIGINT)
    except _Terminated:
        return _interrupted(128 + signal.SIGTERM)
    except SystemExit as stop:  # Typer's way out after completions and closed pipes
        if isinstance(stop.__context__, BrokenPipeError):
            return _closed_pipe()
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        if debug():
            raise
        to_stderr(
            f"error: this is a bug in embcli: {type(error).__name__}: {error}; "
            "try: EMBCLI_DEBUG=1 and the same command, and report what it prints"
        )
        return EmbcliError.exit_code


def entry_point() -> NoReturn:
    """Run as a program: the console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", newline="\n"
        )
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())


def _usage(error: TyperException) -> int:
    """Show a wrong command line as one line."""
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    if message:  # there is none when no command was given and the help has been shown
        path = context.command_path if context else "embcli"
        to_stderr(f"error: {message}; try: {path} --help")
    return 2


def _interrupted(code: int) -> int:
    to_stderr("interrupted")
    return code


def _closed_pipe() -> int:
    """Nobody reads on, as in `| head`: that is no failure. Keep Python from noticing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _Terminated(SystemExit):
    """SIGTERM: leave in good order."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
