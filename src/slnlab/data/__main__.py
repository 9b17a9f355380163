"""Check the files of a published data set: `python -m slnlab.data check NAME DIR`, also `slnlab doctor data=NAME …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from slnlab.config import compose
from slnlab.text.quoting import override
from slnlab.text.terminal import command


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit code 1 if files are missing."""
    parser = argparse.ArgumentParser(
        "python -m slnlab.data", description="Print the expected files of a data set, what is there, and its origin."
    )
    parser.add_argument("command", choices=["check"])
    parser.add_argument("name", metavar="NAME", help="of the data set, such as animal10n; `slnlab list data` has them")
    parser.add_argument("folder", metavar="DIR", help="data.source.root")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys of the data set")
    asked = parser.parse_intermixed_args(arguments)
    from slnlab.data.check import published

    root = override("data.source.root", asked.folder)
    config = compose([f"data={asked.name}", *([root] if root else []), *asked.overrides])
    found = [*published(config)]
    if not found:
        sys.exit(
            f"error: data={asked.name} is not checked file by file; `slnlab doctor data={asked.name}` looks for it"
        )
    print("\n".join(f"{state:5}  {text}" for state, text in found))
    if wrong := sum(state == "wrong" for state, _ in found):
        sys.exit(f"error: {wrong} thing{'s' * (wrong > 1)} to fix, see above")


if __name__ == "__main__":
    main()
