"""The `workbench` command: open the lab, look at rollouts, compute credit, play episodes, train, examine the machine.

Everything heavy is imported inside the verb that needs it, so that `workbench --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from workbench.cli import crediting, looking, opening, planning, playing, runs
from workbench.cli.saying import Problem


def doctor(options: argparse.Namespace) -> int:
    """Examine the installation."""
    from workbench import doctor as examiner

    return examiner.main(["--json"] if options.json else [])


def doctor_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    one.add_argument("--json", action="store_true")


VERBS: tuple[tuple[Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None]], ...] = (
    (opening.lab, opening.arguments),
    (looking.methods, looking.methods_arguments),
    (playing.rollout, playing.arguments),
    (looking.read, looking.read_arguments),
    (looking.show, looking.show_arguments),
    (crediting.credit, crediting.arguments),
    (runs.train, runs.train_arguments),
    (runs.runs, runs.runs_arguments),
    (runs.watch, runs.one_run),
    (runs.pause, runs.one_run),
    (runs.stop, runs.one_run),
    (runs.resume, runs.resume_arguments),
    (planning.plan, planning.plan_arguments),
    (planning.wall, planning.wall_arguments),
    (runs.glossary, runs.glossary_arguments),
    (doctor, doctor_arguments),
)
"""Each verb, named like its function, and what adds its arguments."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    top = argparse.ArgumentParser(prog="workbench", description="Which turn earned the reward?")
    top.add_argument("--debug", action="store_true", help="show where an error came from")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for run, arguments in VERBS:
        text = (run.__doc__ or "").splitlines()[0]
        one = verbs.add_parser(run.__name__, help=text, description=text)
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        one.set_defaults(run=run)
        arguments(one)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status. Errors are one readable line unless `--debug`."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if options.debug:
            raise
        print(f"workbench {options.verb}: {explain(error)}", file=sys.stderr)
        return 1


def explain(error: Exception) -> str:
    """Put an error in one line."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("workbench"):
        return f"the package {error.name} is not installed; `make setup` installs what the lab needs"
    text = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, (Problem, ValueError, OSError))
    return text if known else f"{type(error).__name__}: {text} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
