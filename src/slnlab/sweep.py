"""Show the state of a sweep's runs: `python -m slnlab.sweep status runs`. Nothing here imports torch."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from slnlab.record.sweep_plan import ENDED, STATES, RunStatus, duration, run_statuses, time_left
from slnlab.text.numbers import seconds
from slnlab.text.terminal import command


def table(runs: Sequence[RunStatus]) -> str:
    """Return a line per state, then a line per running, stopped or failed run."""
    count = Counter(run.state for run in runs)
    lines = [f"{count[state]:6d} {state:8s} {what}" for state, what in STATES.items()]
    left = time_left(runs)
    if count["running"]:
        lines.append("time left: " + ("not yet known" if left is None else f"about {duration(left)}"))
    for state in ("running", "stopped", "failed"):
        for run in (run for run in runs if run.state == state):
            done = f"{run.epochs}/{run.max_epochs} epochs" if run.max_epochs else "not begun"
            lines.append(f"  {state:8s} {run.path}  {done}{'  ' + run.message if run.message else ''}")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.sweep") -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(program, description="Show which runs of a sweep are done.")
    parser.add_argument("what", choices=["status"])
    parser.add_argument("folder", type=Path, help="runs_dir of the sweep")
    parser.add_argument("--watch", type=seconds, metavar="SECONDS", help="repeat at this interval until all have ended")
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    options = parser.parse_args(arguments)
    while True:
        runs = run_statuses(options.folder)
        if options.json:
            print(json.dumps([vars(run) for run in runs], indent=1))
        else:
            clear = "\033[2J\033[H" if options.watch and sys.stdout.isatty() else ""
            print(f"{clear}{table(runs)}", flush=True)
        if not options.watch or all(run.state in ENDED for run in runs):
            break
        time.sleep(options.watch)


if __name__ == "__main__":
    main()
