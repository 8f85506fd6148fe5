"""The command `scorehmr`: one module of this folder per subcommand."""

import argparse
import signal
import sys
import warnings

import scorehmr_jax
from scorehmr_jax.commands import (
    build_data,
    convert,
    demo,
    export,
    export_prior,
    feature_stats,
    features,
    fit_markers,
    refine,
    regress,
    view,
)
from scorehmr_jax.compilation_cache import use_compilation_cache

SUBCOMMANDS = (
    refine,
    regress,
    demo,
    build_data,
    features,
    feature_stats,
    fit_markers,
    export,
    export_prior,
    convert,
    view,
)


def main(argv: list[str] | None = None) -> None:
    """Runs a subcommand; a mistake in the input, or Ctrl-C, ends it with one line.

    Args:
        argv: the words after `scorehmr`. Without them this process is the command: they are
            those it was started with, and what it compiles is kept for the next time.
    """
    parser = argparse.ArgumentParser(prog="scorehmr", description=scorehmr_jax.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    args = parser.parse_args(argv)
    if argv is None:
        use_compilation_cache()
    name = f"scorehmr {args.command}"
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"{name}: {message}", file=sys.stderr)
        try:
            args.run(args)
        except (ValueError, OSError, ImportError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt as stop:
            print(f"{name}: stopped", file=sys.stderr)
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))  # as shells have it
