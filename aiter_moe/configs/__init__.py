# SPDX-License-Identifier: MIT
"""Tuned tables in aiter's CSV schema: schema, rows, reader, writer, look-up, provenance."""
