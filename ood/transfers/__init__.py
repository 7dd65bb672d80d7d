"""Bytes on their way: uploads, archives, and copies within and between hosts."""
