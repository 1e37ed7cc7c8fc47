"""Clusters of vectors: ways of finding them, how many there are, what they are like."""
