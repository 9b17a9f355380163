from slnlab.schemas.config import Model


class Schema(Model):
    pretrained: bool
