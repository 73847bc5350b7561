"""Servers and fixtures that several tests share."""
