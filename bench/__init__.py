"""Benchmarks: Arborgate beside others on this machine, in one run, as ratios (`make bench`)."""
