"""The real programs that tests run against, one module for each."""
