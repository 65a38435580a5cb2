"""The corpus that redaction is measured on: planted secrets of many kinds and places, and look-alikes that must survive."""
