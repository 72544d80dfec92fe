"""Pictures, tables, the HTML report and the summary of a sweep.

Hydra loads `fna_lightning.reporting.sweep` at every start, so nothing heavy is imported here: take names from
the modules (`results`, `tables`, `pictures`, `html`, `sweep`).
"""
