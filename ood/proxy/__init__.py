"""The way to the service of a session: who may use it, where it is, and what is passed on."""
