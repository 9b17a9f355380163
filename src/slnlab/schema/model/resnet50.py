from slnlab.schema.sections import Model


class Schema(Model):
    pretrained: bool
