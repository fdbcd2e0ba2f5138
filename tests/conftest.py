"""Property tests are deterministic and have no deadline: a busy machine fails nothing."""

from hypothesis import settings

settings.register_profile("abyme", deadline=None, derandomize=True, database=None)
settings.load_profile("abyme")
