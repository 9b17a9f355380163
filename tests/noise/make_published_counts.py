"""Count what the authors of SLN published: the noisy labels of their CIFAR experiments, as matrices.

    python tests/noise/make_published_counts.py FOLDER > tests/noise/published_counts.json

FOLDER holds the six CSV files below (header ``label,label_noisy``, a row per training sample), as found in
the authors' repository. Entry [i][j] of ``counts`` is the number of samples with label i and noisy label j.
No test needs the files themselves. Written without slnlab, so that the two can be compared.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path

FILES = {
    f"cifar{num_classes}_{noise}0.4.csv": num_classes
    for num_classes in (10, 100)
    for noise in ("sym", "asym", "dependent")
}


def describe(path: Path, num_classes: int) -> dict[str, object]:
    counts = [[0] * num_classes for _ in range(num_classes)]
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            counts[int(row["label"])][int(row["label_noisy"])] += 1
    flips = [sum(row) - row[c] for c, row in enumerate(counts)]
    rates = [flipped / sum(row) for flipped, row in zip(flips, counts, strict=True) if sum(row)]
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "num_samples": sum(map(sum, counts)),
        "num_flips": sum(flips),
        "lowest_class_rate": round(min(rates), 6),
        "highest_class_rate": round(max(rates), 6),
        "counts": counts,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    print("{")
    for number, (name, num_classes) in enumerate(FILES.items(), start=1):
        facts = describe(folder / name, num_classes)
        counts = facts.pop("counts")
        assert isinstance(counts, list)
        # One line per class: json's own indentation would give every count a line.
        rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in counts)
        head = json.dumps(facts)[:-1]
        print(f'"{name}": {head}, "counts": [\n{rows}\n]}}' + ("," if number < len(FILES) else ""))
    print("}")


if __name__ == "__main__":
    main()
