"""Ratios that hold from machine to machine; absolute times are printed beside them for scale only."""
