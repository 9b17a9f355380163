from slnlab.schemas.model.wrn28_2 import Schema

__all__ = ["Schema"]
