"""The paper's claims, each with the rule that judges it and the committed files it reads."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from evidence import percent, results
from judging import (
    PREDICTS,
    Judge,
    compared,
    cost,
    density,
    ends_higher,
    last,
    peak,
    per_run,
    propositions,
    sam_rise,
    sigma,
    weighting,
    with_eigenvalue,
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Args:
        text: the claim.
        source: where the paper makes it.
        rule: when a finding holds.
        command: makes the file that `judge` reads.
        judge: finds its evidence in the folder of an experiment.
    """

    text: str
    source: str
    rule: str
    command: str
    judge: Judge


NOISES = ("SGD noise on parameters", "SGD noise on outputs")
FLATTER = [("SLN", "CE"), ("SGD noise on outputs", "CE"), ("SLN", "SGD noise on parameters")]
"""The flatter row and the sharper one, by Claim 1 and Fig. 2 (c), (d)."""
OTHERS = ("Co-teaching", "SIGUA", "DivideMix")
REPORT = "`slnlab report RUNS --out experiments/NAME`"


def _analyze(kind: str, runs: str) -> str:
    return f"`slnlab analyze {kind} RUNS --out experiments/NAME`, {runs}"


CLAIMS = [
    Claim(
        "SLN avoids the drop of test accuracy",
        "Fig. 1",
        "CE's peak − last is larger than SLN's",
        REPORT,
        compared(results, [("SLN", "CE")], lambda sln, ce: (peak(ce) - last(ce)) - (peak(sln) - last(sln))),
    ),
    Claim(
        "SLN's last epoch is above CE's peak",
        "Fig. 1",
        "SLN's last − CE's peak is positive",
        REPORT,
        compared(results, [("SLN", "CE")], lambda sln, ce: last(sln) - peak(ce)),
    ),
    Claim(
        "The momentum model adds",
        "Tables 1, 2",
        "SLN-MO's last − SLN's last is positive",
        REPORT,
        compared(results, [("SLN-MO", "SLN")], ends_higher),
    ),
    Claim(
        "Label correction adds",
        "Tables 1, 2",
        "SLN-MO-LC's last − SLN-MO's last is positive",
        REPORT,
        compared(results, [("SLN-MO-LC", "SLN-MO")], ends_higher),
    ),
    Claim(
        "Noise on parameters or on logits does not do what SLN does",
        "Fig. 5",
        "SLN's last − the variant's last is positive",
        REPORT,
        compared(results, [("SLN", noise) for noise in NOISES], ends_higher),
    ),
    Claim(
        "A small σ overfits, a large σ underfits",
        "Fig. 6",
        "the best σ within the grid ends above its smallest and its largest σ (Welch's test, 95 %, not corrected)",
        _analyze("sigma", "runs of `method=sln` with several `sln.sigma`"),
        sigma,
    ),
    Claim(
        "Noise on outputs or labels finds flat minima, on parameters it does not: the largest Hessian eigenvalue",
        "Fig. 2, Claim 1",
        "log₁₀ of the first row's eigenvalue − log₁₀ of the second's is positive; runs without a positive one are left "
        "out",
        _analyze("flatness", "runs of `method=ce,sln,sgd_noise_parameters,sgd_noise_outputs`"),
        compared(
            with_eigenvalue,
            FLATTER,
            lambda sln, ce: log10(float(ce["largest_hessian_eigenvalue"]) / float(sln["largest_hessian_eigenvalue"])),
            "decades",
            lambda line: line["largest_hessian_eigenvalue"],
        ),
    ),
    Claim(
        "Noise on outputs or labels finds flat minima, on parameters it does not: SAM sharpness",
        "Fig. 2, Claim 1",
        "the loss rises more in the first row than in the second, to the worst weights in the smallest radius",
        _analyze("flatness", "runs of `method=ce,sln,sgd_noise_parameters,sgd_noise_outputs`"),
        compared(
            per_run("flatness"),
            FLATTER,
            lambda sln, ce: sam_rise(ce) - sam_rise(sln),
            "nats",
            sam_rise,
        ),
    ),
    Claim(
        "SLN is less confident in wrong labels",
        "Fig. 3, Claim 2",
        "CE's mean probability of wrong given labels − SLN's is positive",
        _analyze("density", "runs of `method=ce,sln`"),
        compared(
            density,
            [("SLN", "CE")],
            lambda sln, ce: float(ce["wrong"]) - float(sln["wrong"]),
            "in probability",
            lambda line: line["wrong"],
        ),
    ),
    Claim(
        "SLN lowers the confidence mostly on wrong labels",
        "Fig. 3, Claim 2",
        "the probability falls more from CE to SLN for wrong given labels than for correct ones",
        _analyze("density", "runs of `method=ce,sln`"),
        compared(
            density,
            [("SLN", "CE")],
            lambda sln, ce: (float(ce["wrong"]) - float(sln["wrong"])) - (float(ce["correct"]) - float(sln["correct"])),
            "in probability",
            lambda line: float(line["correct"]) - float(line["wrong"]),
        ),
    ),
    Claim(
        "Selection by small loss is purer with SLN",
        "Fig. 4",
        "among the half of the samples with the smallest loss, SLN has more correct labels than CE",
        _analyze("dissection", "runs of `method=ce,sln`"),
        compared(
            per_run("dissection", interval="1"),
            [("SLN", "CE")],
            lambda sln, ce: percent(sln, "small_loss_half_purity") - percent(ce, "small_loss_half_purity"),
            values=lambda line: percent(line, "small_loss_half_purity"),
        ),
    ),
    Claim(
        "The weight of the given label should grow with its loss",
        "Fig. 10",
        "weighting=loss ends above weighting=inverse",
        REPORT + ", runs of `method=sln_mo_lc correction.weighting=loss,inverse`",
        weighting,
    ),
    Claim(
        "SLN first helps co-teaching, SIGUA and DivideMix",
        "Table 4",
        "the last of the method after SLN − the last of the method alone is positive",
        REPORT,
        compared(results, [(f"SLN → {name}", name) for name in OTHERS], ends_higher),
    ),
    Claim(
        "SLN and the momentum model cost a few per cent",
        "Tables 1–3, Fig. 8",
        "a run costs at most the paper's multiple of CE's; labels are corrected in a sixth of the epochs, as there",
        "`make bench-methods`",
        cost,
    ),
    Claim(
        "The gradient noise has the predicted standard deviation",
        "Propositions 1–3",
        f"R² of the prediction is at least {PREDICTS}",
        _analyze("propositions", "any runs"),
        propositions,
    ),
    Claim(
        "SLN-MO-LC's last epoch is above CE's peak",
        "not a claim of the paper",
        "SLN-MO-LC's last − CE's peak is positive",
        REPORT,
        compared(results, [("SLN-MO-LC", "CE")], lambda ours, ce: last(ours) - peak(ce)),
    ),
]
"""The claims in the order of the page."""
