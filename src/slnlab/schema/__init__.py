"""The shape of the configuration: which keys exist, of which type, in which range. No torch in here.

`conf/` holds values; constructors hold shape and law. What has no constructor stands in `slnlab.schema.sections`.
"""
