from slnlab.schemas.method.forward import Schema

__all__ = ["Schema"]
