"""W&B dashboards show recorded metrics and no secrets; no network is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
import wandb
from filelock import FileLock

from slnlab import dashboard
from slnlab.config import CONF_DIR, check, compose
from slnlab.errors import ConfigError
from slnlab.loggers.wandb_recordings import Recording, link_recording, recordings
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result

TinyRun = Callable[..., tuple[Result, Path]]

TINY = ["data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]


def spec(project: str = "noises", entity: str = "lab") -> Any:
    """The dashboard that would be sent."""
    return json.loads(dashboard.workspace(project, entity)._to_model().spec.model_dump_json(by_alias=True))["section"]


def panels() -> dict[str, list[dict[str, Any]]]:
    """The panels' configurations as they would be sent, by section."""
    sections = spec()["panelBankConfig"]["sections"]
    return {
        section["name"]: [{"viewType": panel["viewType"], **panel["config"]} for panel in section["panels"]]
        for section in sections
    }


# The dashboard


def test_runs_are_grouped_by_their_configuration() -> None:
    """The configuration is the W&B group of a run; see test_loggers.py."""
    (runs,) = spec()["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]


def test_curves_are_means_with_bands_over_seeds_by_epoch() -> None:
    curves = [p for section in panels().values() for p in section if p["viewType"] == "Run History Line Plot"]
    assert len(curves) >= 8
    for curve in curves:
        assert curve["xAxis"] == "epoch"
        assert (curve["groupBy"], curve["groupAgg"], curve["groupArea"]) == ("group", "mean", "stddev")


@pytest.mark.parametrize(
    ("section", "metrics"),
    [
        ("Accuracy", ["test/network/accuracy"]),
        ("Accuracy", ["test/momentum/accuracy"]),
        ("Learning and memorisation", ["train/loss_correct", "train/loss_wrong"]),
        ("Learning and memorisation", ["train/memorised"]),
        ("Time", ["seconds"]),
    ],
)
def test_the_dashboard_has_the_expected_panels(section: str, metrics: list[str]) -> None:
    assert metrics in [panel["metrics"] for panel in panels()[section] if "metrics" in panel]


def test_sigma_is_drawn_against_accuracy() -> None:
    axes = [(panel["xAxis"], panel["yAxis"]) for panel in panels()["σ against accuracy"]]
    assert ("config:sln.value.sigma", "summary:test/network/accuracy") in axes
    assert ("config:sln.value.sigma", "summary:test/momentum/accuracy") in axes


def test_every_panel_shows_a_recorded_metric(tiny_run: TinyRun, tmp_path: Path) -> None:
    """A metric with another name would be an empty panel for ever. The loggers get the rows of metrics.csv."""
    recorded: set[str] = set()
    for method in ("sln", "co_teaching"):
        _, path = tiny_run("trainer.max_epochs=1", f"method={method}", "data.noisy_val=20", directory=tmp_path / method)
        recorded |= read_metrics(path / "metrics.csv")[0].keys()
    shown: set[str] = set()
    for section in panels().values():
        for panel in section:
            shown |= set(panel.get("metrics") or []) | {panel["xAxis"]} - {None} if "xAxis" in panel else set()
            shown |= {panel["yAxis"]} if "yAxis" in panel else set()
    names = {name.removeprefix("summary:") for name in shown} - {"config:sln.value.sigma"}
    assert len(names) > 10
    assert names - recorded == set()


def test_a_dry_run_prints_the_dashboard_without_a_connection(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(wandb, "Api", None)
    dashboard.main(["project=noises", "--dry-run", "entity=lab"])
    text = capsys.readouterr().out
    assert "lab/noises" in text
    assert "train/loss_correct, train/loss_wrong against epoch, mean ± std over seeds" in text
    assert "test/momentum/accuracy against sln.sigma" in text


class Server:
    """Answers W&B's two questions about views, and keeps them."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {}
        self.app_url = "https://wandb.test"

    def answer(self, api: Any, query: str, variables: dict[str, Any]) -> Any:
        if "UpsertView2" not in query:
            found = [self.views[name] for name in self.views if name == variables["viewName"]]
            return {"project": {"allViews": {"edges": [{"node": node} for node in found]}}}
        assert variables.get("id") == self.views.get(variables["name"], {}).get("id"), "an update names what it updates"
        node = {"id": f"id-{variables['name']}", "displayName": variables["displayName"], "spec": variables["spec"]}
        self.views[variables["name"]] = node
        return {"upsertView": {"view": {"id": node["id"], "name": variables["name"]}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr("wandb_workspaces.workspaces.internal.execute_graphql", made.answer)
    monkeypatch.setattr(wandb, "Api", lambda: made)
    monkeypatch.setattr("wandb_workspaces.workspaces.interface.get_app_url", lambda api: made.app_url)
    return made


def test_a_second_upload_updates_the_dashboard(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    dashboard.main(["project=noises", "entity=lab"])
    dashboard.main(["project=noises", "entity=lab"])
    assert len(server.views) == 1
    addresses = set(capsys.readouterr().out.split())
    assert len(addresses) == 1
    assert addresses.pop().startswith("https://wandb.test/lab/noises?nw=")
    dashboard.main(["project=other", "entity=lab"])
    assert len(server.views) == 2


def test_a_refusing_server_is_one_message(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("Project `lab/noises` not found.")

    monkeypatch.setattr("wandb_workspaces.workspaces.internal.execute_graphql", refuse)
    with pytest.raises(SystemExit, match=r"error: W&B: the dashboard of lab/noises: Project `lab/noises` not found"):
        dashboard.main(["project=noises", "entity=lab"])


def test_project_and_entity_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    dashboard.main(["--dry-run"])
    dashboard.main(["--dry-run", "project=noises"])
    assert [line for line in capsys.readouterr().out.splitlines() if "lab/mine" in line or "lab/noises" in line] == [
        f"slnlab: lab/{project}, runs grouped by configuration over seeds" for project in ("mine", "noises")
    ]


def test_a_wrong_key_is_named() -> None:
    with pytest.raises(SystemExit, match=r"projet=x: there is no such key; the keys are project= and entity="):
        dashboard.main(["projet=x"])


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(SystemExit, match=r"pip install 'slnlab\[dashboard\]'"):
        dashboard.main(["--dry-run"])


# Runs recorded without a network


def recording(run: Path, name: str, sent: bool = False) -> Path:
    folder = run / "wandb" / f"offline-run-{name}"
    folder.mkdir(parents=True)
    (folder / f"run-{name[-4:]}.wandb").touch()
    if sent:
        (folder / f"run-{name[-4:]}.wandb.synced").touch()
    return folder


def test_sync_sends_unsent_recordings_that_are_not_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = recording(tmp_path / "digits/a/seed0", "20260101_000000-aaaa")
    resumed = recording(tmp_path / "digits/a/seed0", "20260102_000000-aaaa")
    recording(tmp_path / "digits/a/seed1", "20260101_000000-bbbb", sent=True)
    going_on = recording(tmp_path / "digits/b/seed0", "20260101_000000-cccc")
    (tmp_path / "digits/b/seed0/wandb/run-20260101_000000-dddd").mkdir()  # it was online
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        commands.append(command)
        if first.name in command[-2]:
            (first / "run-aaaa.wandb.synced").touch()

    monkeypatch.setattr(subprocess, "run", run)
    with FileLock(going_on.parent.parent / ".lock"):
        dashboard.main(["sync", str(tmp_path), "--dry-run"])
        listed = capsys.readouterr().out
        assert commands == []
        assert [line.split()[0] for line in listed.splitlines()] == ["to", "to", "sent", "running", "4"]
        assert "4 recordings: 1 sent, 1 still running, 2 to send" in listed

        with pytest.raises(SystemExit, match=rf"1 could not be sent; the same command tries again: {resumed}"):
            dashboard.main(["sync", str(tmp_path)])
    assert commands == [[sys.executable, "-m", "wandb", "sync", "--include-online", str(first), str(resumed)]], (
        "in order of their start"
    )

    commands.clear()
    with pytest.raises(SystemExit):
        dashboard.main(["sync", str(tmp_path)])
    assert commands[0][5:] == [str(resumed), str(going_on)], "that run has ended by now"


def test_recordings_in_another_folder_are_found_while_they_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """WANDB_DIR on a scratch disk, which is emptied now and then."""
    elsewhere = recording(tmp_path / "scratch", "20260101_000000-aaaa")
    run = tmp_path / "runs/digits/a/seed0"
    run.mkdir(parents=True)
    for _ in range(2):
        link_recording(elsewhere, run)
    (found,) = recordings([tmp_path / "runs"])
    assert found.state == "to send"
    assert found.path.resolve() == elsewhere
    elsewhere.rename(tmp_path / "away")
    dashboard.main(["sync", str(tmp_path / "runs")])
    assert "1 recordings: 0 sent, 0 still running, 0 to send, 1 gone" in capsys.readouterr().out


def test_a_sweep_of_thousands_is_sent_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "AT_ONCE", 2)
    sizes: list[int] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: sizes.append(len(command) - 5))
    found = [Recording(recording(tmp_path / str(i), "20260101_000000-aaaa"), False) for i in range(5)]
    assert len(dashboard.sync(found)) == 5
    assert sizes == [2, 2, 1]


def test_the_commands_of_the_wandb_page_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (CONF_DIR.parent / "docs" / "wandb.md").read_text()
    commands = re.findall(r"^python -m slnlab\.dashboard (.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        dashboard.main([*shlex.split(command, comments=True), "--dry-run"])
    assert "0 recordings" in capsys.readouterr().out


# Secrets

KEY = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "ghp_thisMustNotBeWrittenDown1234"


@pytest.fixture(scope="module")
def run_with_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, in W&B's offline mode, by somebody who has keys in the environment and in git's remote."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    url = f"https://me:{PASSWORD}@github.com/me/mine.git"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=folder, check=True)
    names = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    secrets = {"WANDB_API_KEY": KEY, "HF_TOKEN": PASSWORD, "GITHUB_TOKEN": PASSWORD}
    options = ("logger=wandb", "logger.mode=offline", *TINY)
    done = commands.run("slnlab.train", *options, cwd=folder, env=names | secrets)
    assert done.returncode == 0, done.stderr
    (folder / "output").write_text(done.stdout + done.stderr)
    return folder


def test_no_key_or_token_is_written_anywhere(run_with_secrets: Path) -> None:
    files = [path for path in run_with_secrets.rglob("*") if path.is_file() and ".git" not in path.parts]
    names = {path.suffix for path in files}
    assert {".yaml", ".json", ".log", ".csv", ".wandb", ".ckpt"} <= names, "else little was searched"
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert PASSWORD.encode() not in content, path


def test_offline_recordings_are_found_and_readable_by_wandb(run_with_secrets: Path) -> None:
    (found,) = recordings([run_with_secrets])
    assert found.state == "to send"
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(found.path)]
    done = subprocess.run(command, cwd=run_with_secrets, capture_output=True, text=True, check=True)
    assert found.path.name in done.stdout + done.stderr


SECRET = (
    "token",
    "api_key",
    "key",
    "password",
    "hf_token",
    "secret_access_key",
    "client_secret",
    "access_key_id",
    "passwd",
)


@pytest.mark.parametrize("key", [f"+data.source.{name}" for name in SECRET])
def test_a_secret_in_the_configuration_is_refused_and_not_printed(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key[1:]}: looks like a secret") as caught:
        check(compose([f"{key}={PASSWORD}"]))
    assert PASSWORD not in str(caught.value)
