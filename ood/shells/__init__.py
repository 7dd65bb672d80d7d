"""Shells in browsers: terminals on hosts, which outlive the connections that show them."""
