from typing import Literal

from slnlab.schemas.config import Model


class Schema(Model):
    form: Literal["dividemix", "kuangliu"]
