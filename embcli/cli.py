"""The root command: finds the subcommands, turns failures into messages and exit codes."""

import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import FrameType, ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

import embcli.commands
from embcli import __version__, notices
from embcli.config import debug, names_server
from embcli.errors import EmbcliError, UsageError
from embcli.options import example
from embcli.output import report_error, to_stderr

HELP = "Turn files into vectors and search them: from a shell, in one SQLite file."
START = (
    "Start here:  [bold]embcli encode corpus.jsonl[/bold]  "
    'then  [bold]embcli search "a question"[/bold]'
)


# Set by the shell when it asks for completions; it gives no arguments.
_COMPLETING = "_EMBCLI_COMPLETE"


def build_app(only: str | None = None, *, listed: bool = False) -> typer.Typer:
    """Make the application, with one subcommand for every module in `embcli.commands`.

    Parameters
    ----------
    only : str, optional
        One subcommand, where it is known that no other is asked for: to make all of them takes
        a third of the time that it takes to start.
    listed : bool
        Names and descriptions only, for the list of commands: options take the longest.

    Notes
    -----
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
    wanted = {only: _modules()[only]} if only is not None else _modules()
    modules = {name: import_module(module) for name, module in wanted.items()}
    # Typer puts those that have subcommands last.
    in_order = sorted(modules.items(), key=lambda item: (hasattr(item[1], "app"), item[1].ORDER))
    for name, module in in_order:
        if listed:
            told = module.app.info.help if hasattr(module, "app") else module.command.__doc__
            app.command(name, help=_reflowed(told), rich_help_panel=module.PANEL)(_root)
        elif hasattr(module, "app"):
            for command in module.app.registered_commands:
                command.help = _reflowed(command.callback.__doc__)
            app.add_typer(module.app, name=name, rich_help_panel=module.PANEL)
        else:
            app.command(
                name,
                help=_reflowed(module.command.__doc__),
                rich_help_panel=module.PANEL,
                epilog=example(module.EXAMPLE),
            )(module.command)
    return app


@cache
def _modules() -> dict[str, str]:
    """Find the module of every subcommand."""
    return {
        found.name.removesuffix("_"): f"embcli.commands.{found.name}"  # import_ is `import`
        for found in pkgutil.iter_modules(embcli.commands.__path__)
        if not found.name.startswith("_")  # what several have in common
    }


@cache
def _command(only: str | None = None, *, listed: bool = False) -> Any:
    """Make the command, once for a process that runs several command lines."""
    return get_command(build_app(only, listed=listed))


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
    words = list(sys.argv[1:] if arguments is None else arguments)
    notices.listen(to_stderr)
    try:
        _check_characters(words)
        only = words[0] if words and words[0] in _modules() else None
        listed = words in ([], ["-h"], ["--help"]) and not os.environ.get(_COMPLETING)
        code = _command(only, listed=listed).main(words, prog_name="embcli", standalone_mode=False)
        sys.stdout.flush()
        if code == 128 + signal.SIGINT:  # what Typer makes of Ctrl-C
            return _interrupted(code)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _give_up_stdout(0)  # nobody reads on, as in `| head`: that is no failure
    except EmbcliError as error:
        if debug():
            raise
        error.message = _without_passwords(error.message, words)
        error.hint = error.hint and _without_passwords(error.hint, words)
        report_error(error)
        if isinstance(error.__cause__, OSError):
            return _give_up_stdout(error.exit_code)
        return error.exit_code
    except TyperException as error:
        return _usage(error, words)
    except (KeyboardInterrupt, Abort):
        return _interrupted(128 + signal.SIGINT)
    except _Terminated:
        return _interrupted(128 + signal.SIGTERM)
    except SystemExit as stop:  # Typer's way out after completions and closed pipes
        if isinstance(stop.__context__, BrokenPipeError):
            return _give_up_stdout(0)
        return stop.code if isinstance(stop.code, int) else 0
    except OSError as error:
        if debug():
            raise
        report_error(UsageError(f"the system refuses: {error}"))
        return _give_up_stdout(UsageError.exit_code)
    except Exception as error:
        if debug():
            raise
        to_stderr(
            f"error: this is a bug in embcli: {type(error).__name__}: {error}; "
            "try: EMBCLI_DEBUG=1 and the same command, and report what it prints"
        )
        return EmbcliError.exit_code


def run_program() -> NoReturn:
    """Run as a program."""
    _put_off_markdown()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", newline="\n"
        )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _signal_again
    sys.exit(main())


def _put_off_markdown() -> None:
    """Import Rich's Markdown when somebody makes some.

    Typer imports it to show help, none of which is Markdown here; with its parser it took a third
    of the time of ``embcli --help``.
    """

    class Markdown:
        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            del sys.modules["rich.markdown"]
            return import_module("rich.markdown").Markdown(*arguments, **options)

    module = ModuleType("rich.markdown")
    module.__dict__["Markdown"] = Markdown
    sys.modules.setdefault("rich.markdown", module)


def _usage(error: TyperException, words: Sequence[str]) -> int:
    """Show a wrong command line as one line."""
    context = getattr(error, "ctx", None)
    message = _without_passwords(error.format_message().rstrip("."), words)
    if message:  # there is none when no command was given and the help has been shown
        path = context.command_path if context else "embcli"
        to_stderr(f"error: {message}; try: {path} --help")
    return 2


def _without_passwords(text: str, words: Sequence[str]) -> str:
    """Leave out the passwords of URLs of servers, which may stand where none is expected."""
    for word in filter(names_server, words):
        from embcli.servers import without_password

        text = text.replace(word, without_password(word))
    return text


def _interrupted(code: int) -> int:
    to_stderr("interrupted")
    return code


def _give_up_stdout(code: int) -> int:
    """Keep Python from finding out again, at its end, that stdout cannot be written."""
    with suppress(OSError):  # what stands in for stdout in a test has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _check_characters(words: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8, except in names of files that are there."""
    for word in words:
        if not word.isascii() and not os.path.lexists(word):
            try:
                word.encode()
            except UnicodeEncodeError:
                shown = _without_passwords(word, [word])
                raise UsageError(f"the argument {shown!a} is not UTF-8") from None


class _Terminated(SystemExit):
    """SIGTERM: leave in good order."""


def _signal_again(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat a signal that fell into a destructor, which keeps exceptions to itself."""
    if isinstance(lost.exc_value, KeyboardInterrupt | _Terminated):
        interrupted = isinstance(lost.exc_value, KeyboardInterrupt)
        number = signal.SIGINT if interrupted else signal.SIGTERM
        # Later, when this function, which would lose it as well, has ended.
        main_thread = threading.main_thread().ident
        again = threading.Timer(0.05, signal.pthread_kill, [main_thread, number])
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
