"""Clustering in a high-granularity calorimeter: CLUE and its relatives in two and three dimensions."""
