"""What W&B allows: the keys of `logger=wandb`, and the environment that they leave things to."""
