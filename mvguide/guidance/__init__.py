"""Guidance: the lambda table, how it is found, and how it pulls the clean estimate towards the target."""
