from slnlab.schemas.method.ce import Schema

__all__ = ["Schema"]
