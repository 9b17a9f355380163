from slnlab.schema.method.bootstrapping_soft import Schema

__all__ = ["Schema"]
