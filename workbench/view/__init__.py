"""Seeing: payloads, static HTML, displays."""
