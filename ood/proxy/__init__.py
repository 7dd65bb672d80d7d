"""Reaching the service of a session: who may, over which connection, and what is passed on."""
