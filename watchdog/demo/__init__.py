"""A small shop with faults to deploy: real processes on loopback, watched by the real daemon."""
