"""Labels of one image by several people: their frequencies, and the estimate of Dawid and Skene (1979)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Votes = Literal["majority", "frequency", "dawid_skene"]
"""What several labels of an image are made of: the commonest label; that, and the frequencies as target; the likeliest
true label."""

Answers = Mapping[str, Mapping[str, int]]
"""Image → person → class number."""

ROUNDS = 100
SMALLEST = 1e-10
"""Probability of an answer that was never given, so that no person is certain."""


def frequencies(answers: Answers, num_classes: int) -> dict[str, npt.NDArray[np.float32]]:
    """Image → shares (C,) of the classes among its answers, of images with several answers."""
    return {
        path: (np.bincount([*votes.values()], minlength=num_classes) / len(votes)).astype(np.float32)
        for path, votes in answers.items()
        if len(votes) > 1
    }


def dawid_skene(answers: Answers, num_classes: int) -> dict[str, int]:
    """Image → the likeliest true class, by expectation maximisation from the frequencies of the answers.

    Each person p has a matrix θ_p of confusion: θ_p[c, l] = P(answer l | true c). With the shares π of the classes,

        P(true c) ∝ π_c Π_p θ_p[c, l_p]   and   θ_p[c, l] ∝ Σ_i P(true c of image i) [l_p = l],

    until no probability changes by more than 1e-6, or `ROUNDS` times.
    """
    images, people = [*answers], sorted({person for votes in answers.values() for person in votes})
    number_of = {person: number for number, person in enumerate(people)}
    triples = [(i, number_of[p], label) for i, path in enumerate(images) for p, label in answers[path].items()]
    image, person, answer = np.array(triples).T
    true = np.zeros((len(images), num_classes))
    np.add.at(true, (image, answer), 1)
    true /= true.sum(1, keepdims=True)
    for _ in range(ROUNDS):
        confusion = np.zeros((len(people), num_classes, num_classes))  # [person, answer, true]
        np.add.at(confusion, (person, answer), true[image])
        confusion /= np.maximum(confusion.sum(1, keepdims=True), SMALLEST)
        log = np.tile(np.log(np.maximum(true.mean(0), SMALLEST)), (len(images), 1))
        np.add.at(log, image, np.log(np.maximum(confusion[person, answer], SMALLEST)))
        after = np.exp(log - log.max(1, keepdims=True))
        after /= after.sum(1, keepdims=True)
        done, true = np.abs(after - true).max() < 1e-6, after
        if done:
            break
    return dict(zip(images, true.argmax(1).tolist(), strict=True))
