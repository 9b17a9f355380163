"""The schema of the configuration: keys, types and ranges. No module imports torch.

`conf/` holds values, constructors hold shape and law. `slnlab.schema.sections` holds the keys without a constructor.
"""
