from slnlab.schema.sections import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
