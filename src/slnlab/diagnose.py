"""Find the wrong labels of a finished run's training samples: `python -m slnlab.diagnose RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slnlab.errors import DataError
from slnlab.text.terminal import command

if TYPE_CHECKING:
    from slnlab.inference.diagnosis import Diagnosis

MOST_CLASSES = 12
"""Largest number of classes for which the terminal shows the matrix; also the number of classes listed."""


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Score every training label of a finished run, and estimate how many are wrong.",
        epilog="DIR receives issues.csv, the likeliest wrong label first, diagnosis.json, and review.html with --html.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a finished run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/diagnosis")
    parser.add_argument(
        "--score",
        metavar="NAME",
        help="score that ranks and cuts; default: mean_probability, or that of the runs below",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="train K more runs, each without a fold of the labels, which it judges"
    )
    parser.add_argument(
        "--weights", metavar="NAME", help="network, momentum, ensemble, ...; default: those of label_issues.csv"
    )
    parser.add_argument(
        "--threshold-samples", action="store_true", help="train 2 more runs, in which some labels are surely wrong"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="do not read the training images again; no confident learning"
    )
    parser.add_argument("--html", action="store_true", help="also write DIR/review.html, a page to review the labels")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images of feature vectors, for that page")
    parser.add_argument("--write", type=Path, metavar="CSV", help="also write the corrected training labels")
    parser.add_argument(
        "--policy",
        choices=("relabel", "drop", "weight", "keep"),
        default="relabel",
        help="for suspected labels; weight: 1 - P(wrong); keep: only reviewed labels change",
    )
    parser.add_argument("--top", type=int, metavar="N", help="treat the N likeliest wrong labels, not the suspected")
    parser.add_argument(
        "--precision", type=float, metavar="P", help="treat as many labels as have this estimated share of wrong ones"
    )
    parser.add_argument(
        "--reviewed", type=Path, metavar="CSV", help="decisions of a person, which win over the ranking"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    asked = parser.parse_args(arguments)
    if asked.images is not None and (not asked.html or asked.no_images):
        parser.error("--images: goes with --html, without --no-images")
    if asked.write is None:
        for name in ("policy", "top", "precision"):
            if getattr(asked, name) != parser.get_default(name):
                parser.error(f"--{name}: goes with --write")
        if asked.reviewed and not asked.html:
            parser.error("--reviewed: goes with --write or --html")
    return asked


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """The diagnosis as text for a terminal."""
    from slnlab.analysis.scores import RULES

    estimate, run = diagnosis.estimate, diagnosis.run
    issues = run.result.label_issues
    why = f" because {issues.reason}" if issues and issues.judge == run.weights else ""
    count = len(diagnosis.order)
    if "fold_loss" in diagnosis.columns:
        yield f"{count:,} training labels, each judged by the {diagnosis.judge} of a run that has not seen it"
    else:
        yield f"{count:,} training labels, judged by {diagnosis.judge}{why}"
    yield f"ranked by {diagnosis.score}: {RULES[diagnosis.score].says}"
    yield from (f"warning: {remark}" for remark in diagnosis.remarks)
    yield ""
    yield str(estimate)
    if diagnosis.unseen is not None:
        yield str(diagnosis.unseen)
    if diagnosis.confident_count is not None:
        yield f"cleanlab counts {diagnosis.confident_count:,} wrong labels out of fold"
    if estimate.rate.value > 0.5:
        yield "do not trust this share: above a half, wrong labels look like those of a network that has learned little"
    yield ""
    given = [(name, share) for name, share in zip(run.classes, estimate.of_given, strict=True) if share]
    given.sort(key=lambda each: -each[1].value)
    width = max(len(name) for name, _ in given)
    yield f"{'given label':{max(width, 11)}}  wrong"
    yield from (f"{name:{max(width, 11)}}  {share}" for name, share in given[:MOST_CLASSES])
    if len(given) > MOST_CLASSES:
        yield f"and {len(given) - MOST_CLASSES} classes with fewer, in diagnosis.json"
    yield ""
    if len(run.classes) <= MOST_CLASSES:
        yield "transition matrix in %: rows are true classes, columns given ones in the same order"
        for name, row in zip(run.classes, estimate.transition, strict=True):
            yield f"{name:{max(width, 11)}}  " + " ".join(f"{100 * share:3.0f}" for share in row)
        yield ""
    yield from _qualities(diagnosis)


def _qualities(diagnosis: Diagnosis) -> Iterator[str]:
    found, known = diagnosis.qualities(), diagnosis.known
    if not found or known is None:
        return
    rows, wrong = known
    source = "true labels are known" if "wrong" in diagnosis.columns else f"people judged {len(rows):,} of these labels"
    yield f"{source}: {100 * float(wrong.mean()):.1f} % are wrong"
    yield f"{'score':20} {'AUROC':>7} {'AP':>7} {'P@100':>7} {'P@cut':>7} {'R@cut':>7}"
    for name, each in found.items():
        cells = ("-" if value is None else f"{value:.3f}" for value in each)
        yield f"{name:20} " + " ".join(f"{cell:>7}" for cell in cells)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.diagnose") -> None:
    """Run the command line. A user's error is one message and exit code 1."""
    asked = _arguments(arguments, program)
    from slnlab.inference.corrections import check_request, check_target, corrected, usage, write_corrected
    from slnlab.inference.decisions import decisions_of
    from slnlab.inference.diagnosis import diagnose, write_issues, write_summary
    from slnlab.inference.folds import out_of_fold
    from slnlab.inference.threshold import threshold_margin
    from slnlab.inference.trained_run import load
    from slnlab.page.writing import write_review
    from slnlab.train import train

    if asked.images is not None and not asked.images.is_dir():
        raise DataError(f"--images: there is no folder {asked.images}")
    run = load(asked.run, asked.weights, asked.device)
    if asked.write:
        check_target(run, asked.write, asked.reviewed)
        check_request(run, asked.policy, asked.top, asked.precision, asked.reviewed is not None)
    decisions = decisions_of(run, asked.reviewed) if asked.reviewed else None
    outside = out_of_fold(run, asked.folds, train) if asked.folds is not None else None
    margin = threshold_margin(run, train) if asked.threshold_samples else None
    found = diagnose(run, asked.score, not asked.no_images, outside, margin)
    out: Path = asked.out or asked.run / "diagnosis"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error
    write_issues(found, out / "issues.csv")
    write_summary(found, out / "diagnosis.json")
    print("\n".join([*lines(found), f"{out / 'issues.csv'} and diagnosis.json written"]), flush=True)
    if asked.html:
        notes = write_review(out / "review.html", found, decisions, not asked.no_images, asked.images)
        print(f"{out / 'review.html'} written: open it in a browser, and export your decisions")
        print(*(f"review.html: {note}" for note in notes), sep="\n", end="\n" * bool(notes))
    if asked.write:
        labels = corrected(found, asked.policy, asked.top, asked.precision, decisions)
        write_corrected(labels, asked.write)
        print(f"{asked.write}: {labels}; to train on them: {usage(run, asked.write)}")


if __name__ == "__main__":
    main()
