"""Operators: read the properties, call one function, report."""
