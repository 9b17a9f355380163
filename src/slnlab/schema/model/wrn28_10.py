from slnlab.schema.model.wrn28_2 import Schema

__all__ = ["Schema"]
