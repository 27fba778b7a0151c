# SPDX-License-Identifier: MIT
"""The tuner: shapes, candidates, the measuring child, selection and the report.

Problems come from an untuned CSV, choices go to a tuned one (`aiter_moe.configs`). Start reading
at `tuning.tune`; why one kernel won over another is `tuning.select`.
"""
