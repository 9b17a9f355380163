"""Studies of hyper-parameters, as `slnlab.tune` does them; each module uses those before it only:

- `overrides`: what is typed: keys that are fixed, keys that are searched over, who does the runs
- `plan`: what is asked: which runs, in which directories, and whether it can work
- `record`: what came out, and what it lets one choose
- `page`, `files`: the record as Markdown, and on disk
- `runs`: its runs, here or by a launcher
- `grid_search`, `optuna_search`: which trials are done

Until a run begins, nothing imports torch.
"""
