"""The run on noisy labels, from whose predictions a transition matrix or a noise rate is estimated."""

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

SHARED = ("data", "noise", "model", "optimizer", "scheduler", "trainer", "clip_norm", "seed", "runs_dir")
"""Groups and keys that the run on noisy labels copies from the run that needs it."""


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """The run on noisy labels, for an estimated transition matrix or a noise rate by anchor points.

    Other runs need none. Its directory follows from its configuration, so forward and backward correction share it.
    """
    wanted = _estimated(spec.config)
    if wanted is None:
        return
    noisy = _settled_noisy_run(spec)
    directory = RunDirectory(noisy.directory)
    wants_weights = "start_from" in spec.config.method
    if directory.probabilities.exists() and (not wants_weights or directory.checkpoint.exists()):
        return
    yield NeededRun(
        noisy,
        directory.checkpoint,
        f"method={spec.config.method.name}",
        f"method={spec.config.method.name} estimates its {wanted} from a network that learned the noisy labels, "
        f"and none is stored in {noisy.directory}. Training it for {noisy.config.trainer.max_epochs} epochs "
        "first.",
    )


def filled(spec: RunSpec) -> RunSpec:
    """The run with the network's predictions (`method.estimate_from`) filled in; other methods unchanged.

    `method.start_from` gets the network's checkpoint, if the method has this key.

    Raises:
        SlnlabError: several processes train, each of which would predict only its part.
    """
    if _estimated(spec.config) is None:
        return spec
    noisy = _settled_noisy_run(spec)
    directory = RunDirectory(noisy.directory)
    if not directory.probabilities.exists():
        _predict(probability_run.filled(noisy))
    made = {"method.estimate_from": str(directory.probabilities)}
    if "start_from" in spec.config.method:
        made["method.start_from"] = str(directory.checkpoint)
    return spec.changed(made)


def _estimated(config: DictConfig) -> str | None:
    """What the method estimates from another run, in words; None: nothing, or the run is there."""
    method = config.method
    if method.get("estimate_from") is not None:
        return None
    if method.get("transition") == "estimated":
        return "transition matrix"
    return "noise rate" if method.get("forget_rate") == "anchor_points" else None


def _settled_noisy_run(spec: RunSpec) -> RunSpec:
    return settle(_noisy_run(spec.config))


def _noisy_run(config: DictConfig) -> DictConfig:
    """Cross entropy at its best epoch on held-out noisy labels.

    The run trains like `config`, but never reads the test set, and holds out a tenth if `config` holds out nothing.
    """
    noisy = compose([f"data={config.data.name}", "method=early_stopping"])
    own = container_of(config)
    with open_dict(noisy):
        for key in SHARED:
            noisy[key] = own[key]
        size = noisy.data.train_size or noisy.data.num_train
        noisy.data.noisy_val = noisy.data.noisy_val or max(1, size // 10)
        noisy.data.test = False
        if "clean_val" in noisy.data:  # correct labels would choose the epoch instead
            noisy.data.clean_val = False
        noisy.best_epoch.criterion = config.method.get("criterion", "loss")
        noisy.method.rows = {
            "best": "CE (best on noisy labels, for the transition matrix)",
            "network": "CE (for the transition matrix) (network)",
        }
    return noisy


def _predict(spec: RunSpec) -> None:
    """Write the softmax of the run's best weights on all training images, held-out ones included, not augmented."""
    import torch

    from slnlab.data.probabilities import save_probabilities
    from slnlab.models.predicting import predict
    from slnlab.processes.distributed import world_size
    from slnlab.record.checkpoints import best_weights
    from slnlab.training import assemble
    from slnlab.training.devices import on_gpus

    if world_size() > 1:
        raise SlnlabError(f"{spec.directory}: its predictions need one process; start this run in one process first")
    run = RunDirectory(spec.directory)
    device = torch.device("cuda" if on_gpus(spec.config) and torch.cuda.is_available() else "cpu")
    datamodule = assemble.datamodule(spec.config)
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.to(device)
    checkpoint = assemble.checkpoints(spec, run).load_checkpoint(run.checkpoint)
    network = assemble.method(spec.config).network.to(device)
    network.load_state_dict(best_weights(checkpoint))
    batches = torch.arange(len(datamodule.labels.given), device=device).split(datamodule.eval_batch_size)
    read = datamodule.reading(batches)
    probabilities = [predict(network, read(number).view()).float().softmax(1) for number in range(len(batches))]
    save_probabilities(run.probabilities, torch.cat(probabilities), datamodule.labels.given)
