"""Settings of the whole test run."""

from hypothesis import settings

# a loaded machine is no reason to fail a property
settings.register_profile("gigassl", deadline=None)
settings.load_profile("gigassl")
