"""Looks at what there is: pools that are observed, and boxes that are given up when they are lost."""
