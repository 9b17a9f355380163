"""The shape of the configuration: which keys exist, of which type, in which range. No torch in here.

`conf/` holds values, this package holds shape, and both have the same folders. The keys that every option of
a group has are in `slnlab.schemas.config`; an option with keys of its own adds `schemas/<group>/<name>.py`
with a class `Schema`, beside `conf/<group>/<name>.yaml`.
"""

from slnlab.schemas.base import Component, Rate, Section

__all__ = ["Component", "Rate", "Section"]
