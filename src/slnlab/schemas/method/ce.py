from slnlab.schemas.config import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
