from slnlab.schema.method.forward import Schema

__all__ = ["Schema"]
