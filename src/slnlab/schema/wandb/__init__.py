"""The schema of `logger=wandb`: its keys, and W&B's environment for keys that are null."""
