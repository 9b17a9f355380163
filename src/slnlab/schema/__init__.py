"""The shape of the configuration: which keys exist, of which type, in which range. No torch in here.

`conf/` holds values, this package holds shape, and both have the same folders. The keys that every option of
a group has are in `slnlab.schema.sections`; an option with keys of its own adds `schema/<group>/<name>.py`
with a class `Schema`, beside `conf/<group>/<name>.yaml`.
"""

from slnlab.schema.kinds import Component, Rate, Section

__all__ = ["Component", "Rate", "Section"]
