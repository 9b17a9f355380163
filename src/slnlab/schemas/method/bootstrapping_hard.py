from slnlab.schemas.method.bootstrapping_soft import Schema

__all__ = ["Schema"]
