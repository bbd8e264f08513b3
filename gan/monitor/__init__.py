"""What a run shows: metrics, warnings, previews, plots
and report.html."""
