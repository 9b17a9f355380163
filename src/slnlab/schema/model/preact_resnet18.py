from typing import Literal

from slnlab.schema.sections import Model


class Schema(Model):
    form: Literal["dividemix", "kuangliu"]
