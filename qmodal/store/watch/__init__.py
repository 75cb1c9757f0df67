"""Looks at what there is: pools that are observed, what boxes offer, and boxes that are given up when they are lost."""
