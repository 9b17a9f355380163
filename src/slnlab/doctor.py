"""Check the installation, this machine and the folders of a run: `python -m slnlab.doctor data=cifar10 runs_dir=runs`.

With `data=animal10n data.source.root=DIR` it also counts the files of a published data set and names what is missing.
The doctor writes nothing but slnlab's cache, and asks no server. It tells whether a W&B key exists, but never shows it.
It decodes no image and reads no file of label noise: a run checks these before it trains.
"""

from __future__ import annotations

import argparse
import importlib
import netrc
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf
from packaging.requirements import Requirement
from packaging.version import Version

from slnlab.catalogue.options import options, search_also
from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.config.contents import digests, unverified
from slnlab.errors import SlnlabError
from slnlab.processes.cores import cores
from slnlab.text.terminal import command

BREAKS: dict[tuple[str, ...], str] = {
    ("python>=3.14", "hydra-core<=1.3.6"): "Hydra cannot read a command line on this Python; use Python 3.13",
    ("pytorch-lightning>=2.6.2,<2.6.4",): (
        "malicious releases (GHSA-w37p-236h-pfx3): remove them, and change every password and key on this machine"
    ),
    ("tensorboard<2.21", "setuptools>=82"): "the command `tensorboard` does not start; pip install 'tensorboard>=2.21'",
    ("ray", "click==8.3.0"): "the command `ray` may not start; pip install --upgrade click",
}
"""Versions that break when installed together, and the remedy."""

Verdict = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """One line of the output: all is well, a note, or something to fix."""

    state: Verdict
    what: str
    says: str

    def __str__(self) -> str:
        return f"{self.state:5}  {self.what:11} {self.says}"


def findings(overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield all findings.

    Args:
        overrides: overrides of the intended run.

    Raises:
        ConfigError: the overrides cannot be composed.
    """
    config = compose(overrides)
    requirements = [Requirement(text) for text in metadata.requires("slnlab") or ()]
    yield Finding("ok", "python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("ok", "slnlab", f"{metadata.version('slnlab')}, {Path(__file__).parent}")
    yield from packages(requirements)
    yield from known_to_break()
    yield from torch_and_gpus()
    yield from processors()
    yield from extras(requirements)
    wrong = _refused(config)
    if wrong:
        yield Finding("wrong", "configuration", wrong)
    else:
        yield from folders(config, overrides)
        yield from pretrained_weights(config)
    yield from wandb_login()
    yield from slurm()


def _refused(config: DictConfig) -> str:
    """The fault of the configuration; empty: it has none, or lacks only what must be given."""
    try:
        check(config)
    except SlnlabError as error:
        return "" if "must be given" in str(error) else str(error)
    return ""


def _installed(name: str) -> Version | None:
    if name == "python":
        return Version(platform.python_version())
    try:
        return Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


def _lacks(requirement: Requirement) -> str:
    """Return the fault of a requirement; empty: it is met."""
    version = _installed(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version}, but slnlab needs {requirement.specifier}"
    return ""


def packages(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """Check the required packages."""
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not needed:
        yield Finding("note", "packages", "slnlab was not installed by pip, so its requirements are not known")
        return
    lacking = [text for text in map(_lacks, needed) if text]
    yield from (Finding("wrong", "packages", text) for text in lacking)
    if not lacking:
        yield Finding("ok", "packages", f"all {len(needed)} required ones are installed, in versions that work")


def known_to_break() -> Iterator[Finding]:
    """Check for versions that do not work together."""
    for together, says in BREAKS.items():
        versions = {each.name: _installed(each.name) for each in map(Requirement, together)}
        if all(not _lacks(Requirement(text)) for text in together):
            shown = ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Finding("wrong", "packages", f"{shown}: {says}")


def extras(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """Check the optional packages."""
    names = metadata.metadata("slnlab").get_all("Provides-Extra") or []
    for name in (name for name in names if name not in ("all", "dev", "docs")):
        chosen = [each for each in requirements if each.marker and each.marker.evaluate({"extra": name})]
        lacking = [text for text in map(_lacks, chosen) if text]
        versions = ", ".join(f"{each.name} {_installed(each.name)}" for each in chosen)
        says = f"{'; '.join(lacking)}: pip install 'slnlab[{name}]'" if lacking else versions
        yield Finding("note" if lacking else "ok", name, says)


def torch_and_gpus() -> Iterator[Finding]:
    """Import PyTorch, and check the GPUs that it sees."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken installation raises many types
        yield Finding("wrong", "torch", f"cannot be imported: {type(error).__name__}: {error}")
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Finding("ok", "torch", f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("ok", "GPUs", ", ".join(names))
    elif shutil.which("nvidia-smi"):
        yield Finding("wrong", "GPUs", "nvidia-smi is installed, but PyTorch sees no GPU; runs would use the CPU")
    elif torch.backends.mps.is_available():
        yield Finding("ok", "GPUs", "Apple's, by MPS")
    else:
        yield Finding("note", "GPUs", "none; runs use the CPU")


def processors() -> Iterator[Finding]:
    """Report the cores, and their limits."""
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK") if name in os.environ}
    limited = "".join(f", {name}={value}" for name, value in limits.items())
    yield Finding("ok", "cores", f"{cores()} for this process, of {os.cpu_count()} in the machine{limited}")


def folders(config: DictConfig, overrides: Sequence[str]) -> Iterator[Finding]:
    """Check the folder of runs and the folders of data sets."""
    yield _writable("runs_dir", Path(config.runs_dir))
    typed = any(text.startswith("data=") for text in overrides)
    for name in [config.data.name] if typed else [option.name for option in options("data")]:
        try:
            source = (config if typed else compose([*overrides, f"data={name}"])).data.source
        except SlnlabError as error:
            yield Finding("wrong", "data", f"{name}: {error}")
            continue
        if OmegaConf.is_missing(source, "root"):
            yield Finding("note", "data", f"{name}: data.source.root must be given")
        elif "root" not in source:
            yield Finding("ok", "data", f"{name}: inside a package")
        elif typed and (checked := list(data_files(config))):
            yield from checked
        elif (root := Path(source.root).expanduser()).exists():
            yield Finding("ok", "data", f"{name}: looked for in {root}")
        else:
            fetched = "; the data would be downloaded into it" if source.get("download") else ""
            yield Finding("note", "data", f"{name}: there is no {root}{fetched}")


def data_files(config: DictConfig) -> Iterator[Finding]:
    """Check the files of the run's data set; nothing if it has no published files."""
    from slnlab.data.check import published  # with torch, whose installation may be broken

    try:
        yield from (Finding(state, "data", text) for state, text in published(config))
        if unpublished(config):
            found = f"{config.data.name}: the files in {config.data.source.root} are not the published ones"
            yield Finding("wrong", "data", f"{found}; data.source.verify=false reads them all the same")
    except SlnlabError as error:
        yield Finding("wrong", "data", f"{config.data.name}: {error}")


def unpublished(config: DictConfig) -> bool:
    """True if a run would compare the files of its data set with the published ones, and they differ."""
    source = config.data.source
    if not source.get("verify") or source.get("published") is None:
        return False
    container = container_of(config)
    return unverified({**container, "contents": digests(container)})


def pretrained_weights(config: DictConfig) -> Iterator[Finding]:
    """Check that the published weights of a pretrained network are there; nothing for other networks."""
    if not config.model.get("pretrained"):  # or torch were imported for nothing
        return
    from slnlab.models.weight_files import wanted

    found = wanted(config)
    if found is None:
        return
    file, address = found
    if file.exists():
        yield Finding("ok", "weights", f"model={config.model.name}: ImageNet weights, in {file}")
    else:
        yield Finding("note", "weights", f"model={config.model.name}: a run downloads {address} to {file}, once")


def _writable(what: str, folder: Path) -> Finding:
    """Check that files can be written; no file is left behind."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path.cwd())
    try:
        with tempfile.TemporaryFile("w+b", dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding("wrong", what, f"{folder}: cannot be written: {error.strerror or error}")
    return Finding("ok" if free > 1e9 else "note", what, f"{folder}: can be written, {free / 1e9:,.1f} GB are free")


def wandb_login() -> Iterator[Finding]:
    """Check that a W&B key exists, without showing or testing it."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    mode = f", WANDB_MODE={os.environ['WANDB_MODE']}" if "WANDB_MODE" in os.environ else ""
    if os.environ.get("WANDB_API_KEY"):
        yield Finding("ok", "W&B", f"WANDB_API_KEY is set, for {host}{mode}")
        return
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    says = f"logged in at {host}" if known else f"not logged in at {host}; for logger=wandb: wandb login"
    yield Finding("ok" if known else "note", "W&B", says + mode)


def slurm() -> Iterator[Finding]:
    """Check that launcher=slurm could submit jobs here."""
    if shutil.which("sbatch") is None:
        yield Finding("note", "SLURM", "none; launcher=slurm needs sbatch")
        return
    try:
        done = subprocess.run(["sbatch", "--version"], capture_output=True, encoding="utf-8", timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("note", "SLURM", f"sbatch does not work: {error}")
        return
    if done.returncode:
        yield Finding("note", "SLURM", f"sbatch does not work: {done.stderr.strip()}")
        return
    job = f", within job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
    yield Finding("ok", "SLURM", done.stdout.strip() + job)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.doctor") -> None:
    """Run the command line; exit code 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        program,
        description="Check the installation, this machine, and a run's folders and data. Nothing is sent.",
        epilog="It decodes no image and reads no file of label noise: a run checks these before it trains. "
        "Exit codes: 0 nothing is wrong, 1 something is, 2 usage.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys of the run, such as data=cifar10")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own options")
    asked = parser.parse_intermixed_args(arguments)
    wrong = 0
    search_also(asked.config_dir)
    for finding in findings(asked.overrides):
        print(finding, flush=True)
        wrong += finding.state == "wrong"
    if wrong:
        sys.exit(f"error: {wrong} thing{'s' * (wrong > 1)} to fix, see above")


if __name__ == "__main__":
    main()
