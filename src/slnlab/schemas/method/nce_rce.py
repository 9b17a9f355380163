from slnlab.schemas.method.anl_ce import Schema

__all__ = ["Schema"]
