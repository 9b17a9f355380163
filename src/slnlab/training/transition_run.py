"""A transition matrix is estimated from a network that learned the noisy labels: the run that makes it."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, open_dict

from slnlab.config import compose
from slnlab.config.container import container_of
from slnlab.config.run_spec import RunSpec
from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.training import probability_run
from slnlab.training.needed import NeededRun
from slnlab.training.settling import settle

SHARED = ("data", "noise", "model", "loss", "optimizer", "scheduler", "trainer", "seed", "runs_dir")
"""What the run on noisy labels has from the run that it is made for."""


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """An ordinary run whose directory follows from its configuration, so forward and backward correction share it."""
    if not _estimated(spec.config):
        return
    noisy = _settled_noisy_run(spec)
    directory = RunDirectory(noisy.directory)
    if directory.probabilities.exists():  # its weights may be gone
        return
    yield NeededRun(
        noisy,
        directory.checkpoint,
        f"method={spec.config.method.name} estimates its transition matrix from a network that learned the noisy "
        f"labels, and none is stored in {noisy.directory}. Training it for {noisy.config.trainer.max_epochs} epochs "
        "first.",
    )


def filled(spec: RunSpec) -> RunSpec:
    """With `method.estimate_from`, what that network predicts; other methods pass as they are.

    Raises:
        SlnlabError: several processes train, of which each would predict its part only.
    """
    if not _estimated(spec.config):
        return spec
    noisy = _settled_noisy_run(spec)
    file = RunDirectory(noisy.directory).probabilities
    if not file.exists():
        _predict(probability_run.filled(noisy))
    return spec.changed({"method.estimate_from": str(file)})


def _estimated(config: DictConfig) -> bool:
    return config.method.get("transition") == "estimated" and config.method.estimate_from is None


def _settled_noisy_run(spec: RunSpec) -> RunSpec:
    return settle(_noisy_run(spec.config))


def _noisy_run(config: DictConfig) -> DictConfig:
    """Cross entropy, at its best epoch on held-out noisy labels.

    It is trained as `config` is, but never reads the test set. Where `config` holds nothing out, it holds out a tenth.
    """
    made = compose([f"data={config.data.name}", "method=early_stopping"])
    here = container_of(config)
    with open_dict(made):
        for key in SHARED:
            made[key] = here[key]
        size = made.data.train_size or made.data.num_train
        made.data.noisy_val = made.data.noisy_val or max(1, size // 10)
        made.data.test = False
        made.method.criterion = config.method.criterion
        made.method.rows = {
            "best": "CE (best on noisy labels, for the transition matrix)",
            "network": "CE (for the transition matrix) (network)",
        }
    return made


def _predict(spec: RunSpec) -> None:
    """Write the softmax of the run's best weights on all training images, those held out included, as they are."""
    import torch

    from slnlab.data.probabilities import save_probabilities
    from slnlab.models.modes import evaluating
    from slnlab.processes.distributed import world_size
    from slnlab.training import assemble
    from slnlab.training.devices import on_gpus

    if world_size() > 1:
        raise SlnlabError(f"{spec.directory}: its predictions are made by one process; do this run in one first")
    run = RunDirectory(spec.directory)
    device = torch.device("cuda" if on_gpus(spec.config) and torch.cuda.is_available() else "cpu")
    datamodule = assemble.datamodule(spec.config)
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.to(device)
    checkpoint = assemble.checkpoints(spec, run).load_checkpoint(run.checkpoint)
    network = assemble.method(spec.config).network.to(device)
    network.load_state_dict(checkpoint["best"]["weights"])
    batches = torch.arange(len(datamodule.labels.given), device=device).split(datamodule.eval_batch_size)
    read = datamodule.reading(batches)
    with evaluating(network), torch.no_grad():
        said = [network(read(number).view()).float().softmax(1) for number in range(len(batches))]
    save_probabilities(run.probabilities, torch.cat(said), datamodule.labels.given)
