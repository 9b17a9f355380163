"""Whether a finished run has learned its training labels at all."""

from __future__ import annotations

from slnlab.result import Result

SHARE = 0.5
"""Of the labels that are right. A network that agrees with fewer has learned little, also of a hundred classes."""

UNKNOWN = 0.8
"""The share of right labels where nobody knows it: about that of data sets from the web."""


def learned_little(result: Result) -> str | None:
    """What to say of a run whose networks agree with few of their training labels; None: they agree with enough.

    A network that has learned the classes, and no wrong label by heart, agrees with the labels that are right.
    """
    evaluator = max(result.evaluators.values(), key=lambda each: each.labels.given_accuracy)
    agreement, wrong = evaluator.labels.given_accuracy, result.label_noise.get("realised_rate")
    right = UNKNOWN if wrong is None else 1 - wrong
    if agreement >= SHARE * right:
        return None
    expected = f"{100 * right:.0f} % of which are right" if wrong is not None else "most of which should be right"
    epochs, rate = result.identity["trainer"]["max_epochs"], result.identity["optimizer"]["lr"]
    return (
        f"{evaluator.label} agrees with {100 * agreement:.0f} % of the training labels, {expected}: it has learned "
        f"little. Try more epochs (trainer.max_epochs was {epochs}) or another learning rate (optimizer.lr was "
        f"{rate:g}); do not trust its list of label issues"
    )
