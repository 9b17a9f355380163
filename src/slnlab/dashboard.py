"""Make or update the dashboard of a W&B project: `python -m slnlab.dashboard project=slnlab entity=me`.

`python -m slnlab.dashboard sync runs` sends the recordings of runs without a network.

W&B groups runs by configuration without the seed, so a curve is a mean over seeds, and its band a standard deviation.
The dashboard needs the extra `dashboard`; `sync` does not.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from slnlab.errors import SlnlabError
from slnlab.loggers.wandb_recordings import Recording, recordings
from slnlab.schema.wandb.settings import PROJECT
from slnlab.text.terminal import command

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

log = logging.getLogger(__name__)

NAME = "slnlab"
"""Name of the saved view. Each update replaces changes made by hand."""

AT_ONCE = 100
"""Number of runs for one `wandb sync`, so that its command line does not grow too long."""


# The dashboard


class Panel(NamedTuple):
    """A panel of the dashboard.

    Args:
        kind: curves: mean and standard deviation over the seeds of each configuration, by epoch; bars: the last value,
            as a mean over the seeds; against_sigma: the last value against `sln.sigma`.
        title: above the panel.
        metrics: names; one, except for curves.
        log_y: logarithmic axis, for curves.
    """

    kind: Literal["curves", "bars", "against_sigma"]
    title: str
    metrics: tuple[str, ...]
    log_y: bool = False

    def drawn(self, wr: Any) -> Any:
        """The panel as an object of W&B's library `wr`."""
        over_seeds = {"groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        if self.kind == "curves":
            axes = {"x": "epoch", "y": list(self.metrics), "log_y": self.log_y or None}
            return wr.LinePlot(title=self.title, **axes, **over_seeds, max_runs_to_show=100)
        (metric,) = self.metrics
        if self.kind == "bars":
            return wr.BarPlot(title=self.title, metrics=[metric], **over_seeds, max_bars_to_show=40)
        axes = {"x": wr.Config("sln.sigma"), "y": wr.SummaryMetric(metric)}
        return wr.ScatterPlot(title=self.title, **axes, running_ymean=True)


NETWORK, MOMENTUM = "test/network/accuracy", "test/momentum/accuracy"

SECTIONS = {
    "Accuracy": (
        Panel("curves", "Test accuracy of the network", (NETWORK,)),
        Panel("curves", "Test accuracy of the momentum model", (MOMENTUM,)),
        Panel(
            "curves",
            "Test accuracy of two networks: mean, ensemble",
            ("test/mean/accuracy", "test/ensemble/accuracy"),
        ),
        Panel("bars", "Test accuracy at the last epoch: network", (NETWORK,)),
        Panel("bars", "Test accuracy at the last epoch: momentum model", (MOMENTUM,)),
        Panel("curves", "Accuracy on held-out noisy labels", ("val/network/accuracy", "val/momentum/accuracy")),
    ),
    "Learning and memorisation": (
        Panel("curves", "Loss on correct and on wrong labels", ("train/loss_correct", "train/loss_wrong"), log_y=True),
        Panel("curves", "Memorised: predicted as their wrong label", ("train/memorised",)),
        Panel("curves", "Recovered: predicted as their true label", ("train/recovered",)),
        Panel("curves", "Correct labels among the selected", ("train/selected_correct",)),
    ),
    "σ against accuracy": (
        Panel("against_sigma", "Network, test, last epoch", (NETWORK,)),
        Panel("against_sigma", "Momentum model, test, last epoch", (MOMENTUM,)),
        Panel("against_sigma", "Network, held-out noisy labels", ("val/network/accuracy",)),
    ),
    "Time": (
        Panel("curves", "Seconds of training per epoch", ("seconds",)),
        Panel("curves", "Images per second", ("images_per_second",)),
        Panel("bars", "Seconds of the last epoch", ("seconds",)),
    ),
}
"""Title of a section → its panels."""


def workspace(project: str, entity: str) -> ws.Workspace:
    """Return the dashboard as an object of W&B's library; nothing is sent.

    Args:
        project: the key `logger.project`.
        entity: user or team, the key `logger.entity`.

    Raises:
        SlnlabError: the extra is not installed.
    """
    ws, wr = _library()
    sections = [
        ws.Section(name=name, is_open=name != "Time", panels=[panel.drawn(wr) for panel in panels])
        for name, panels in SECTIONS.items()
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100, tooltip_number_of_runs="default"),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")], order=[ws.Ordering(ws.Metric("Group"))]),
    )


def save(dashboard: ws.Workspace) -> str:
    """Make or update the saved view; return its address.

    Raises:
        SlnlabError: there is no login, no such project, or no network.
    """
    ws, _ = _library()
    key = hashlib.sha256(f"{dashboard.entity}/{dashboard.project}/{NAME}".encode()).hexdigest()[:11]
    address = f"https://wandb.ai/{dashboard.entity}/{dashboard.project}?nw={key}"
    try:
        try:
            dashboard._internal_id = ws.Workspace.from_url(address)._internal_id
        except ValueError as error:
            if "Workspace" not in str(error):  # the project is missing, not the view
                raise
        dashboard._internal_name = f"nw-{key}-v"
        dashboard.save()
        return str(dashboard.url)
    except Exception as error:  # all errors of server and network become one message
        raise SlnlabError(f"W&B: the dashboard of {dashboard.entity}/{dashboard.project}: {error}") from error


def outline(dashboard: ws.Workspace) -> str:
    """Return the dashboard as text: sections, panels, and their metrics."""
    lines = [f"{dashboard.name}: {dashboard.entity}/{dashboard.project}, runs grouped by configuration over seeds"]
    for section in dashboard.sections:
        lines.append(f"\n{section.name}")
        for panel in section.panels:
            shown = getattr(panel, "metrics", None) or panel.y  # type: ignore[union-attr]
            names = [_name(metric) for metric in (shown if isinstance(shown, list) else [shown])]
            how = f" against {_name(panel.x)}" if hasattr(panel, "x") else ""
            grouped = "mean ± std over seeds" if getattr(panel, "groupby", None) else "one point per run"
            lines.append(f"  {type(panel).__name__:12} {panel.title}: {', '.join(names)}{how}, {grouped}")  # type: ignore[union-attr]
    return "\n".join(lines)


def _name(metric: Any) -> str:
    return str(getattr(metric, "name", metric))


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise SlnlabError("the dashboard needs the extra: pip install 'slnlab[dashboard]'") from None
    return ws, wr


def _default_entity() -> str:
    import wandb

    try:
        entity = wandb.Api().default_entity
    except Exception as error:
        raise SlnlabError(f"W&B: {error}; `wandb login` first, or give entity=") from error
    if not entity:
        raise SlnlabError("W&B knows no default entity of yours; give entity=")
    return str(entity)


# Runs recorded without a network


def sync(recordings: Sequence[Recording]) -> list[Path]:
    """Send waiting recordings of ended runs by `wandb sync`; return the paths of the failed ones."""
    waiting = [recording for recording in recordings if recording.state == "to send"]
    for some in _batches([str(recording.path) for recording in waiting], AT_ONCE):
        # --include-online: some recordings began online and lost the network.
        subprocess.run([sys.executable, "-m", "wandb", "sync", "--include-online", *some], check=False)
    return [recording.path for recording in waiting if recording.state != "sent"]


def _batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _sync_command(arguments: Sequence[str], program: str) -> None:
    parser = argparse.ArgumentParser(
        f"{program} sync",
        description="Send the recordings of runs without a network to W&B. The same command sends the rest.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders to search recursively")
    parser.add_argument("--dry-run", action="store_true", help="list the recordings, send nothing")
    asked = parser.parse_intermixed_args(arguments)
    found = recordings(asked.runs)
    if asked.dry_run:
        for recording in found:
            print(f"{recording.state:8} {recording.path}")
    failed = [] if asked.dry_run else sync(found)
    count = Counter(recording.state for recording in found)
    gone = f", {count['gone']} gone with their WANDB_DIR" if count["gone"] else ""
    print(
        f"{len(found)} recordings: {count['sent']} sent, {count['running']} still running, "
        f"{count['to send']} to send{gone}"
    )
    if failed:
        raise SlnlabError(
            f"{len(failed)} could not be sent; the same command tries again: {', '.join(map(str, failed))}"
        )


def _dashboard_command(arguments: Sequence[str], program: str) -> None:
    parser = argparse.ArgumentParser(
        program,
        description="Make or update the W&B dashboard of a project.",
        epilog=f"{program} sync RUNS sends the recordings of runs without a network.",
    )
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="project=slnlab entity=<user or team>")
    parser.add_argument("--dry-run", action="store_true", help="print the dashboard, send nothing")
    asked = parser.parse_intermixed_args(arguments)
    keys = {"project": os.environ.get("WANDB_PROJECT") or PROJECT, "entity": os.environ.get("WANDB_ENTITY", "")}
    for text in asked.keys:
        key, equals, value = text.partition("=")
        if key not in keys or not equals or not value:
            raise SlnlabError(f"{text}: there is no such key; the keys are project= and entity=")
        keys[key] = value
    _library()
    if asked.dry_run:
        print(outline(workspace(keys["project"], keys["entity"] or "(your default entity)")))
        return
    print(save(workspace(keys["project"], keys["entity"] or _default_entity())))


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.dashboard") -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["sync"]:
        _sync_command(given[1:], program)
    else:
        _dashboard_command(given, program)


if __name__ == "__main__":
    main()
