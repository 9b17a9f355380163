"""Studies of hyper-parameters for `slnlab.tune`. Each module uses only those before it:

- `overrides`: the typed overrides: fixed keys, searched keys, the launcher
- `plan`: the runs of a study, their directories, and all checks before a run
- `record`: the trials' results and the choice among them
- `page`, `files`: the record as Markdown, and on disk
- `runs`: the runs, in this process or by a launcher
- `grid_search`, `optuna_search`: the order and the values of the trials

Importing this package does not import torch; the first run does.
"""
