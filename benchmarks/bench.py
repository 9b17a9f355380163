"""Speed of slnlab beside the usual alternatives: `make bench`, or

    python -m benchmarks.bench [--rows augmentation,overhead] [--quick] [--out results.json]

Rows are measured one after another. The sides of a row take turns (A B A B …) in one process tree, so that a busy
machine slows both alike. `benchmarks/results/<machine>.json` holds the medians, their spread and the 95 % intervals of
the median ratios, with time, commit and load of each row. Other rows keep their results. `benchmarks/README.md` is made
from these files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.rows import GPU_ROWS, ROWS, Row
from slnlab.record.environment import environment, processor_name
from slnlab.text.terminal import print_anywhere

HERE = Path(__file__).resolve().parent
SPEED = HERE.parent / "docs" / "speed.md"
NOT_YET = "not yet run"


def measure(name: str, quick: bool) -> dict[str, Any]:
    """Measure one row; return its entry of the results."""
    from importlib import import_module

    row = GPU_ROWS.get(name) or ROWS[name]
    run: Callable[[bool], Sequence[Any]] = getattr(import_module(f"benchmarks.{row.module}"), row.function)
    load, start = os.getloadavg()[0], time.perf_counter()
    figures = [figure.as_json() for figure in run(quick)]
    return {
        "title": row.title,
        "bound": row.bound,
        "status": "measured",
        "how": " ".join((run.__doc__ or "").split()),
        "figures": figures,
        "taken": {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "git": environment()["git"],
            "load_before": load,
            "load_after": os.getloadavg()[0],
            "seconds": time.perf_counter() - start,
            "quick": quick,
        },
    }


def machine() -> dict[str, Any]:
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) / 2**20
    described = {"processor": processor_name(), "cores": os.cpu_count(), "memory_gib": round(memory, 1)}
    gpus = environment()["gpus"]
    return {"gpu": gpus[0], **described} if gpus else described


def machine_name(device: str) -> str:
    if device != "cpu":
        return re.sub(r"[^a-z0-9]+", "-", str(environment()["gpus"][0]).lower()).strip("-")
    words = re.sub(r"\(\w+\)|processor|cpu|@.*", " ", processor_name(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", f"{words} {os.cpu_count()} cores".lower()).strip("-")


def blank(rows: dict[str, Row]) -> dict[str, Any]:
    return {"rows": {name: {"title": r.title, "bound": r.bound, "status": NOT_YET} for name, r in rows.items()}}


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def page(results: dict[str, dict[str, Any]], text: str = "page.md") -> str:
    """Return README.md or GPU.md, with a section per machine."""
    lines = [(HERE / text).read_text(encoding="utf-8").rstrip(), ""]
    for result in results.values():
        described, packages = result["machine"], result["environment"]["packages"]
        if "gpu" in described:
            lines += [f"# {described['gpu']}", ""]
        versions = ", ".join(f"{p} {packages[p]}" for p in ("torch", "pytorch-lightning", "torchvision"))
        lines += [
            f"## {described['processor']}, {described['cores']} cores, {described['memory_gib']:.0f} GiB",
            "",
            f"Python {result['environment']['python']}, {versions}; {result['environment']['platform']}.",
            "",
            "| | bound | figure | measured | 95 % interval | met | load |",
            "|---|---|---|---:|---|---|---|",
        ]
        for row in _rows(result).values():
            if row["status"] == NOT_YET:
                lines.append(f"| {row['title']} | {row['bound']} | | {NOT_YET} | | | |")
                continue
            title, bound = row["title"], row["bound"]
            load = f"{row['taken']['load_before']:.1f}–{row['taken']['load_after']:.1f}"
            for figure in row["figures"]:
                interval = figure["interval"]
                met = {None: "", True: "yes", False: "**no**"}[figure["met"]]
                within = f"{number(interval[0])}–{number(interval[1])}" if interval else ""
                value = f"{number(figure['value'])} {figure['unit']}"
                lines.append(f"| {title} | {bound} | {figure['what']} | {value} | {within} | {met} | {load} |")
                title = bound = load = ""
        lines += ["", "Medians of the timed sides, with quartiles and extremes:", ""]
        lines += [
            "| row | figure | timed | median | quartiles | lowest–highest | n |",
            "|---|---|---|---:|---|---|---:|",
        ]
        for name, row in result["rows"].items():
            for figure in row.get("figures", []):
                for what, s in figure["details"].items():
                    lines.append(
                        f"| `{name}` | {figure['what']} | {what} | {number(s['median'])} | "
                        f"{number(s['q1'])}–{number(s['q3'])} | {number(s['low'])}–{number(s['high'])} | {s['n']} |"
                    )
        lines.append("")
        for name, row in result["rows"].items():
            if "taken" in row:
                git = row["taken"]["git"] or {"commit": "unknown", "dirty": False}
                changed = " with changes" if git["dirty"] else ""
                seconds = f"{row['taken']['seconds']:.0f} s"
                commit = f"commit {git['commit'][:7]}{changed}"
                lines.append(f"- `{name}`: {row['how']} {row['taken']['date']}, {commit}, {seconds}.")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def summary(result: dict[str, Any], elsewhere: Collection[str] = ()) -> list[str]:
    """Return the table of docs/speed.md: the figures with a bound.

    Args:
        result: of a machine.
        elsewhere: rows to leave out where the machine has not measured them.
    """
    lines = ["| | bound | measured | met |", "|---|---|---:|---|"]
    for name, row in _rows(result).items():
        title, bound = row["title"], row["bound"]
        if row["status"] == NOT_YET:
            if name in elsewhere:
                continue
            lines.append(f"| {title} | {bound} | {NOT_YET} | |")
            continue
        judged = [figure for figure in row["figures"] if figure["met"] is not None]
        if len(judged) > 2:  # one number says it
            judged = [max(judged, key=_distance)]
            title += ", the worst part"
        for figure in judged:
            met = "yes" if figure["met"] else "**no**"
            lines.append(f"| {title} | {bound} | {number(figure['value'])} {figure['unit']} | {met} |")
            title = bound = ""
    return lines


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    """The rows of a machine, with those that it has not measured."""
    known = GPU_ROWS if "gpu" in result["machine"] else ROWS
    return blank(known)["rows"] | {name: row for name, row in result["rows"].items() if row["status"] != NOT_YET}


def _distance(figure: dict[str, Any]) -> float:
    """How far a figure is on the wrong side of its target, as a ratio; below 1 it is met."""
    ratio: float = figure["value"] / figure["target"]
    return 1 / ratio if figure["sense"] == "at least" else ratio


def with_tables(text: str, results: dict[str, dict[str, Any]]) -> str:
    """Return docs/speed.md with the table of each machine below its mark, `<!-- machine -->`."""
    measured = {name for r in results.values() for name, row in r["rows"].items() if row["status"] != NOT_YET}
    for machine, result in results.items():
        table = "\n".join(summary(result, measured)) + "\n"
        text = re.sub(rf"(<!-- {machine} -->\n)(\|.*\n)*", lambda found, new=table: found[1] + new, text)  # type: ignore[misc]
    return text


def write_pages() -> None:
    for folder, text, out in (("results", "page.md", "README.md"), ("results_gpu", "page_gpu.md", "GPU.md")):
        files = sorted((HERE / folder).glob("*.json"))
        results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
        (HERE / out).write_text(page(results, text), encoding="utf-8")
        if folder == "results":
            SPEED.write_text(with_tables(SPEED.read_text(encoding="utf-8"), results), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", help=f"comma-separated, of {', '.join({**ROWS, **GPU_ROWS})}; default: all")
    parser.add_argument("--quick", action="store_true", help="run every row briefly; the numbers mean nothing")
    parser.add_argument("--out", type=Path, help="output instead of results/<machine>.json; README.md is not written")
    parser.add_argument("--page", action="store_true", help="only write README.md, without measuring")
    options = parser.parse_args(arguments)
    if options.page:
        write_pages()
        return
    if options.device == "cuda" and not environment()["gpus"]:
        parser.error("--device cuda: PyTorch sees no GPU on this machine")
    os.environ["BENCH_DEVICE"] = options.device  # read when the rows' modules are imported
    rows = ROWS if options.device == "cpu" else GPU_ROWS
    names = options.rows.split(",") if options.rows else list(rows)
    unknown = [name for name in names if name not in {**ROWS, **GPU_ROWS}]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; the rows are {', '.join({**ROWS, **GPU_ROWS})}")
    if options.quick and not options.out:
        parser.error("--quick needs --out: its numbers are not worth keeping")
    folder = HERE / ("results" if options.device == "cpu" else "results_gpu")
    path: Path = options.out or folder / f"{machine_name(options.device)}.json"
    results = blank(rows)
    if path.exists():
        results["rows"] |= {n: r for n, r in json.loads(path.read_text(encoding="utf-8"))["rows"].items() if n in rows}
    described = {key: value for key, value in environment().items() if key not in ("git", "threads")}
    results = {"machine": machine(), "environment": described, **results}
    for name in names:
        results["rows"][name] = measure(name, options.quick)
        print(f"{name}: {results['rows'][name]['title']} ({results['rows'][name]['bound']})", flush=True)
        for figure in results["rows"][name]["figures"]:
            interval = figure["interval"]
            within = f"  [{number(interval[0])}, {number(interval[1])}]" if interval else ""
            met = {None: "", True: "  met", False: "  MISSED"}[figure["met"]]
            print(f"    {figure['what']}: {number(figure['value'])} {figure['unit']}{within}{met}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not options.out:
        write_pages()


if __name__ == "__main__":
    # Remarks of Lightning and Hydra would hide the table.
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("slnlab").setLevel(logging.WARNING)
    assert platform.system() == "Linux", "the benchmarks read /proc"
    main()
