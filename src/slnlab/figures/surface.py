"""The loss on a plane through a network's weights, point by point: resumable, and on several processes."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from slnlab.errors import DataError
from slnlab.figures.mean_loss import MeanLoss, Vector
from slnlab.processes import forkserver
from slnlab.processes.cores import cores
from slnlab.streams import Streams

Point = tuple[float, float]
"""Coordinates (a, b) of the weights w + a·d₁ + b·d₂."""


def filter_normalised(weights: Vector, generator: torch.Generator) -> list[Tensor]:
    """Return a random direction whose filters have the norms of the network's filters (Li et al. 2018, section 4).

    A filter is a slice of the first dimension: an output channel of a convolution, a row of a linear layer. Parameters
    with one dimension (biases, scales and shifts of batch norms) do not move, as in the paper's published figures.

    Args:
        weights: the parameters w.
        generator: on the CPU, so that equal shapes get equal draws on every device.
    """
    direction = []
    for weight in weights:
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        if weight.ndim <= 1:
            direction.append(torch.zeros_like(weight))
            continue
        length, wanted = (tensor.detach().flatten(1).norm(dim=1) for tensor in (drawn, weight))
        direction.append(drawn * (wanted / length).view(-1, *[1] * (weight.ndim - 1)))
    return direction


class Surface:
    """L(w + a·d₁ + b·d₂) around trained weights w, with two filter-normalised random directions.

    Args:
        loss: L.
        seed: of the directions. Networks with equal shapes get equal draws, each scaled to its own filters.
    """

    def __init__(self, loss: MeanLoss, seed: int) -> None:
        self.loss = loss
        streams = Streams(seed)
        self.directions = [filter_normalised(loss.parameters, streams("landscape direction", k)) for k in (0, 1)]
        self.digest = _digest(loss, self.directions)

    def at(self, point: Point) -> float:
        """Return the loss at a point, in nats."""
        one, other = (torch._foreach_mul(d, x) for d, x in zip(self.directions, point, strict=True))
        return self.loss.at(torch._foreach_add(one, other))

    def on(self, points: Sequence[Point], folder: Path, workers: int = 1) -> dict[Point, float]:
        """Return the loss at every point. Finished points are kept in a file of `folder`, and not computed again.

        The name of the file is a hash of weights, images, labels and directions, so it never serves another surface.

        Args:
            points: to compute.
            folder: made if missing.
            workers: number of processes, ≥ 1; above 1 the network must be on the CPU.

        Raises:
            DataError: the file cannot be written.
        """
        file = folder / f"{self.digest}.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            known = _read(file)
            missing = [point for point in points if point not in known]
            with file.open("a", encoding="utf-8") as kept:
                for point, loss in self._computed(missing, workers):
                    known[point] = loss
                    kept.write(f"\n{point[0]!r},{point[1]!r},{loss!r},")
                    kept.flush()
        except OSError as error:
            raise DataError(f"{file}: cannot be written ({error.strerror})") from error
        return {point: known[point] for point in points}

    def _computed(self, points: Sequence[Point], workers: int) -> Iterator[tuple[Point, float]]:
        with tqdm(total=len(points), desc="loss surface", disable=None, delay=1, leave=False) as bar:
            if min(workers, len(points)) < 2:
                for point in points:
                    yield point, self.at(point)
                    bar.update()
                return
            threads = max(1, cores() // workers)
            context = forkserver.context(True, [__name__], {"OMP_NUM_THREADS": "1"})
            pool = ProcessPoolExecutor(workers, context, _begin, (forkserver.Surroundings(), self, threads))
            try:
                futures = {pool.submit(_work, point): point for point in points}
                for future in as_completed(futures):
                    yield futures[future], future.result()
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)


def _digest(loss: MeanLoss, directions: Sequence[Vector]) -> str:
    digest = hashlib.sha256()
    tensors = [*loss.network.state_dict().values(), loss.images, loss.labels, *directions[0], *directions[1]]
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(file: Path) -> dict[Point, float]:
    """Read the finished points. A line that a killed process cut short does not end with a comma and is left out."""
    known = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        cells = line.split(",")
        if len(cells) == 4:
            a, b, loss = map(float, cells[:3])
            known[a, b] = loss
    return known


# In the processes

_surface: Surface


def _begin(surroundings: forkserver.Surroundings, surface: Surface, threads: int) -> None:
    global _surface
    surroundings.take_over()
    forkserver.end_with_parent(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    torch.set_num_threads(threads)
    _surface = surface


def _work(point: Point) -> float:
    return _surface.at(point)
