from slnlab.schema.method.ce import Schema

__all__ = ["Schema"]
