"""The paper's figures as analyses of finished runs, a module per kind: `slnlab analyze KIND RUN… --out DIR`.

Each module has `figure(runs, out, …options)`, which writes `<kind>.png`, `<kind>.svg` and `<kind>.csv` (the numbers
behind the picture) into the folder `out` and returns remarks. A module with options has `add_arguments(parser)`.
"""
