# SPDX-License-Identifier: MIT
"""Jinja templates: one per kernel kind, each renders one instance."""
